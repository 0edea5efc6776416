"""python -m impasto.pocket.pretrain STEP --work DIR: make the pocket model from nothing."""

import argparse
from pathlib import Path

STEPS = ("data", "tokenizer", "vae", "latents", "base", "judge", "export", "report", "all", "quickstart-data")
MINUTES = {"vae": 40.0, "base": 240.0, "judge": 20.0}


def main() -> None:
    """Run one step, or all in order."""
    parser = argparse.ArgumentParser(prog="python -m impasto.pocket.pretrain", description=__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--work", type=Path, default=Path("pocket-work"), help="folder for pictures and checkpoints")
    parser.add_argument("--minutes", type=float, help="how long a training may take")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--origin", type=Path, help="folder of a model that a base without a checkpoint starts from")
    parser.add_argument("--pictures", type=int, default=40_000, help="how many pictures to draw")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--document", type=Path, default=Path("docs/explanation/pocket.md"), help="where a report goes")
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    for step in STEPS[:8] if chosen.step == "all" else [chosen.step]:
        run(step, chosen)


def run(step: str, chosen: argparse.Namespace) -> None:
    """Run one step."""
    import torch

    from impasto import pocket
    from impasto.pocket.pretrain import base, export, judge, pictures, quickstart, report, tokenizer, vae

    torch.set_num_threads(chosen.threads)
    if torch.distributed.is_torchelastic_launched():
        torch.distributed.init_process_group("gloo")
    work, seed = chosen.work, chosen.seed
    minutes = MINUTES.get(step, 0.0) if chosen.minutes is None else chosen.minutes
    match step:
        case "data":
            pictures.draw_all(work, seed, chosen.pictures)
        case "tokenizer":
            tokenizer.make_tokenizer(work, seed)
        case "vae":
            vae.train_vae(work, minutes, seed)
        case "latents":
            vae.encode_all(work)
        case "base":
            base.train_base(work, minutes, seed, chosen.origin)
        case "judge":
            judge.train_judge(work, minutes, seed)
        case "export":
            export.export(work, pocket.folder())
        case "report":
            report.report(chosen.document, work, seed)
        case "quickstart-data":
            quickstart.write(pocket.quickstart())


if __name__ == "__main__":
    main()
