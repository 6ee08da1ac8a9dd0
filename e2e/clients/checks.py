"""A check of schemathesis, in place of its not_a_server_error: Kafka Connect
answers 500 to bodies that are not what they should be, and so do we where
it has the path."""

import schemathesis

# How the answers to such bodies begin, and what answers so to whatever names no class.
BODIES = (
    "The request body is not ", "The request has no ", "The value of ", "An element of ",
    "A partition or an offset is no ", "Unrecognized field ",
)
VALIDATE = "/connector-plugins/{plugin}/config/validate"


@schemathesis.check
def is_no_failure_of_the_server(ctx, response, case):
    if response.status_code < 500:
        return
    path = case.operation.path
    message = response.json().get("message", "")
    like_connect = not path.startswith(("/v1/", "/secret/")) and response.status_code == 500
    assert like_connect and (message.startswith(BODIES) or path == VALIDATE and "nternal error" not in message), \
        f"{response.status_code} {message}"
