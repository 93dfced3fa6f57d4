"""What a photo can do to the process that looks at it: a decoder that crashes, memory that is not enough.

Ray starts the process anew and hands it the same photos again, for ever. So a process that was started anew is careful:
it marks in the run what it has in hand. A block that kills it a second time is taken photo by photo, and a photo that
kills it then becomes a row with that error. Nothing is marked before something has died.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pyarrow as pa

from pipelines.write import name_of
from pusa import records, storage
from pusa.records import Run


class Guard:
    """A stage that outlives the photos that kill it. `guarded` makes one."""

    stage: ClassVar[type]

    def __init__(self, out: str, **arguments: Any) -> None:
        import ray

        self.inner = self.stage(**arguments)
        self.run = Run(out)
        self.restarted = bool(ray.get_runtime_context().was_current_actor_reconstructed)

    def __call__(self, photos: pa.Table) -> pa.Table:
        if not self.restarted:
            return self.inner(photos)
        if not self.marked(photos):
            return self.marking(photos)
        done = pa.concat_tables([self.alone(photos.slice(k, 1)) for k in range(len(photos))])
        self.unmark(photos)
        return done

    def alone(self, photo: pa.Table) -> pa.Table:
        """One photo; an error where it killed this stage: once in a block unmarked, once in a marked one, once here."""
        if not self.marked(photo):
            return self.marking(photo)
        self.unmark(photo)
        error = f"killed {self.stage.__name__} three times: it crashes, or needs more memory than there is"
        return records.with_instances(records.with_columns(photo, status=["error"], error=[error]), [[]])

    def marking(self, photos: pa.Table) -> pa.Table:
        """What the stage makes of them, with a mark as long as it takes."""
        storage.write_bytes(self.run.fs, self.mark(photos), b"")
        done = self.inner(photos)
        self.unmark(photos)
        return done

    def mark(self, photos: pa.Table) -> str:
        return self.run.file("suspects", f"{self.stage.__name__}-{name_of(photos)}")

    def marked(self, photos: pa.Table) -> bool:
        return storage.exists(self.run.fs, self.mark(photos))

    def unmark(self, photos: pa.Table) -> None:
        if self.marked(photos):
            self.run.fs.delete_file(self.mark(photos))


def guarded(stage: type) -> type:
    """`stage` as a Guard of the same name: by it Ray's logs and metrics tell the pools apart."""
    return type(stage.__name__, (Guard,), {"stage": stage})
