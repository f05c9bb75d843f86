"""The module SampleData: sources are registered as in Slicer, and a sample whose files lie on this computer is loaded as there."""

from __future__ import annotations

import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import slicer

__all__ = ["SampleDataLogic", "SampleDataSource", "downloadSample", "downloadSamples"]


def _listed(value: Any, length: int) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value] * length


class SampleDataSource:
    """Describe a sample of one file or several; all lists have the same length."""

    def __init__(
        self,
        sampleName: str | None = None,
        sampleDescription: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        checksums: Any = None,
        loadFiles: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: str | None = None,
        loadFileTypes: Any = None,
        loadFileProperties: dict[str, Any] | None = None,
        loadFileType: Any = None,
    ) -> None:
        self.sampleName, self.sampleDescription = sampleName, sampleDescription or sampleName
        self.uris = [uris] if isinstance(uris, str) else uris
        lists = {"fileNames": fileNames, "nodeNames": nodeNames, "checksums": checksums, "loadFiles": loadFiles}
        lists["loadFileTypes"] = loadFileTypes if loadFileTypes is not None else loadFileType
        for name, value in lists.items():
            setattr(self, name, _listed(value, len(self.uris)))
            if len(getattr(self, name)) != len(self.uris):
                raise ValueError(f"All fields of sample data source must have the same length: {name}")
        self.customDownloader, self.thumbnailFileName = customDownloader, thumbnailFileName
        self.loadFileProperties = loadFileProperties or {}

    def __eq__(self, other: object) -> bool:
        return str(vars(self)) == str(vars(other))

    __hash__ = None


class SampleDataLogic:
    """Keep the sources in slicer.modules.sampleDataSources, as Slicer does."""

    def __init__(self, logMessage: Any = None) -> None:
        self.logMessage = logMessage or (lambda *_arguments: None)

    @staticmethod
    def registerCustomSampleDataCategory(category: str, title: str) -> None:
        slicer.modules.__dict__.setdefault("sampleDataSourceCategories", {}).setdefault(category, {})["title"] = title

    @staticmethod
    def registerCustomSampleDataSource(category: str = "Custom", **source: Any) -> None:
        sources = slicer.modules.__dict__.setdefault("sampleDataSources", {}).setdefault(category, [])
        made = SampleDataSource(**source)
        if made not in sources:
            sources.append(made)

    @staticmethod
    def sampleDataSourcesByCategory(category: str | None = None) -> Any:
        sources = slicer.modules.__dict__.setdefault("sampleDataSources", {})
        return sources if category is None else sources.get(category, [])

    @staticmethod
    def isSampleDataSourceRegistered(category: str, source: SampleDataSource) -> bool:
        return source in SampleDataLogic.sampleDataSourcesByCategory(category)

    def sourceForSampleName(self, name: str) -> SampleDataSource | None:
        every = (source for sources in self.sampleDataSourcesByCategory().values() for source in sources)
        return next((source for source in every if source.sampleName == name), None)

    def downloadSamples(self, name: str) -> list[Any]:
        source = self.sourceForSampleName(name)
        if source is None:
            raise KeyError(f"no sample is called {name}")
        return source.customDownloader(source) if source.customDownloader else self.downloadFromSource(source)

    def downloadSample(self, name: str) -> Any:
        return self.downloadSamples(name)[0]

    def downloadFromSource(self, source: SampleDataSource, *_arguments: Any) -> list[Any]:
        """Copy each file into the cache, verify it, load it under its node's name, and let go of its storage node."""
        loaded = []
        cache = Path(slicer.mrmlScene.GetCacheManager().GetRemoteCacheDirectory())
        for uri, file, name, checksum in zip(source.uris, source.fileNames, source.nodeNames, source.checksums, strict=True):
            if not uri.startswith("file:"):
                raise ValueError(f"Testing/host downloads nothing: {uri}")
            path = cache / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(Path(urllib.request.url2pathname(urllib.parse.urlparse(uri).path)).read_bytes())
            if checksum and slicer.util.computeChecksum("SHA256", str(path)) != checksum.removeprefix("SHA256:"):
                raise ValueError(f"checksum of {file} is wrong")
            node = slicer.util.loadNodeFromFile(str(path), None, {"name": name, **source.loadFileProperties})
            storage = node.GetStorageNode()
            if storage is not None:
                slicer.mrmlScene.RemoveNode(storage)
                node.SetAndObserveStorageNodeID(None)
            loaded.append(node)
        return loaded


def downloadSample(name: str) -> Any:
    return SampleDataLogic().downloadSample(name)


def downloadSamples(name: str) -> list[Any]:
    return SampleDataLogic().downloadSamples(name)
