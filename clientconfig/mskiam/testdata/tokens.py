"""Writes tokens.jsonl: tokens that Amazon's own library for Python makes, with the keys from Amazon's documentation.

    pip install aws-msk-iam-sasl-signer-python==1.0.2
    python tokens.py > tokens.jsonl
"""
import json

from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
from botocore.credentials import CredentialProvider, Credentials


class Fixed(CredentialProvider):
    def __init__(self, session):
        self.session = session

    def load(self):
        return Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", self.session)


for region in ("us-east-1", "eu-west-1", "us-gov-west-1"):
    for session in (None, 'FwoGZXIvYXdzE+/=="x y&z=%'):
        token, _ = MSKAuthTokenProvider.generate_auth_token_from_credentials_provider(region, Fixed(session))
        print(json.dumps({"region": region, "session": session or "", "token": token}))
