//! Each stage against a server that answers as told: what is asked, what is taken, and every way to fail.
