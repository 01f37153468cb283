"""LitServe: `LitAPI` with a batch. It reads annotations as types, so none are postponed here."""

import sys

import litserve
from model import BATCH, WINDOW_SECONDS, Body, Model


class Filling(litserve.LitAPI):
    """Fills gaps."""

    def setup(self, device: str) -> None:
        """Load the model."""
        del device
        self.model = Model()

    def predict(self, bodies: list[Body]) -> list[Body]:
        """A batch."""
        return self.model(bodies)

    def encode_response(self, output: Body) -> Body:
        """An answer as it is."""
        return output


if __name__ == "__main__":
    api = Filling(max_batch_size=BATCH, batch_timeout=WINDOW_SECONDS, api_path="/fill")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=120)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="critical"
    )
