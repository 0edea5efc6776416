"""Other trainers: what their options are called here."""
