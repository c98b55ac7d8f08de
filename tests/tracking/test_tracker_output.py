"""Logs of trackers hold no secrets."""

import pytest

from ncsnx.tracking.tracker_output import without_secrets

ENVIRONMENT = {
    "WANDB_API_KEY": "k" * 40,
    "HF_TOKEN": "hf_abcdef",
    "DB_PASSWORD": "s3cret pass",
    "A_KEY": "1",
    "HOME": "/root",
}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"key {'k' * 40}.", "key ***."),
        ("hf_abcdef and s3cret pass in /root", "*** and *** in /root"),
        (
            "at https://me:word@example.org/a and http://example.org",
            "at https://***@example.org/a and http://example.org",
        ),
        ("step 1 of 12", "step 1 of 12"),
    ],
)
def test_secrets_of_the_environment_and_logins_in_addresses_are_left_out(text: str, kept: str) -> None:
    assert without_secrets(text, ENVIRONMENT) == kept
