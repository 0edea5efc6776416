"""What runs mean together: adapters side by side, what set their runs apart, branches, reruns, archives."""
