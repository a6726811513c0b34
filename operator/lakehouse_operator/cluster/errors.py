"""What can go wrong with a cluster, in the words that the operator decides by."""


class ClusterError(Exception):
    """The cluster did not do what was asked."""


class NotFound(ClusterError):
    """The object, or the namespace that it should be in, does not exist."""


class NotInstalled(ClusterError):
    """The API server does not know the kind: its CRD is missing. It says nothing about objects of that kind."""


class Conflict(ClusterError):
    """The object is not the one that was meant (other UID), or it has changed since it was read. Read it again."""


class Refused(ClusterError):
    """The API server understood the request and will not do it: invalid, forbidden, or turned down by admission."""


class Unavailable(ClusterError):
    """The API server could not be reached, failed, or did not answer in time. Whether it did the work is unknown."""


class Throttled(ClusterError):
    """The API server has too much to do.

    Attributes:
        retry_after: seconds to wait before the next attempt, as the server asked.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after
