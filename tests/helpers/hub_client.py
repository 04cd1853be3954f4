"""A client of the loopback Hub, the unmodified `huggingface_hub`: what pushing and loading lean on. For test_hub.py."""

import sys

import requests
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)


def refused(error, function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except error as caught:
        return caught
    raise AssertionError(f"{function} was not refused")


api, other, nobody = HfApi(), HfApi(token="other"), HfApi(token=False)
assert api.whoami()["name"] == "org"
assert refused(HfHubHTTPError, HfApi(token="wrong").whoami).response.status_code == 401
api.create_repo("org/one")
refused(HfHubHTTPError, api.create_repo, "org/one")
assert refused(HfHubHTTPError, nobody.create_repo, "org/two").response.status_code == 401
assert refused(HfHubHTTPError, api.create_repo, "other/two").response.status_code == 403
DEEP = "folder/deep/weights.safetensors"
first = api.upload_file(path_or_fileobj=b"0123456789" * 50, path_in_repo=DEEP, repo_id="org/one")
api.upload_file(path_or_fileobj=b"text", path_in_repo="notes.txt", repo_id="org/one")
refused(HfHubHTTPError, other.upload_file, path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="org/one")
refused(HfHubHTTPError, api.upload_file, path_or_fileobj=b"x", path_in_repo="y", repo_id="org/one", parent_commit="0" * 40)
refused(ValueError, api.upload_file, path_or_fileobj=b"---\nlicense: [1\n---", path_in_repo="README.md", repo_id="org/one")
api.create_tag("org/one", tag="v1", revision=first.oid)
api.create_branch("org/one", branch="a/b")
refused(HfHubHTTPError, api.create_branch, "org/one", branch="a/b")
refs = api.list_repo_refs("org/one", include_pull_requests=True)
assert ([b.name for b in refs.branches], [t.name for t in refs.tags]) == (["main", "a/b"], ["v1"])
assert [c.title for c in api.list_repo_commits("org/one")][-1] == "initial commit"
assert set(api.list_repo_files("org/one", revision="v1")) == {".gitattributes", "folder/deep/weights.safetensors"}
tree = {item.path: item for item in api.list_repo_tree("org/one", recursive=True)}
assert tree["folder/deep/weights.safetensors"].lfs.size == 500
assert "folder/deep" in tree
assert [item.path for item in api.list_repo_tree("org/one", "folder")] == ["folder/deep"]
assert [info.path for info in api.get_paths_info("org/one", ["notes.txt", "none"])] == ["notes.txt"]
refused(EntryNotFoundError, hf_hub_download, "org/one", "none.txt")
refused(RevisionNotFoundError, hf_hub_download, "org/one", "notes.txt", revision="v9")
url = api.endpoint + "/org/one/resolve/main/folder/deep/weights.safetensors"
assert requests.head(url).status_code == 302
part = requests.get(url, headers={"Range": "bytes=8-11"})
assert (part.status_code, part.text, part.headers["Content-Range"]) == (206, "8901", "bytes 8-11/500")
assert requests.head(url).headers["X-Linked-Size"] == "500"
assert requests.get(url, headers={"Range": "bytes=500-"}).status_code == 416
api.update_repo_settings("org/one", gated="auto")
assert nobody.model_info("org/one").gated
refused(GatedRepoError, hf_hub_download, "org/one", "notes.txt", token=False, cache_dir=sys.argv[1] + "-cache")
api.update_repo_settings("org/one", gated=False, private=True)
assert api.model_info("org/one").private
refused(RepositoryNotFoundError, nobody.model_info, "org/one")
refused(RepositoryNotFoundError, other.model_info, "org/one")
assert [m.id for m in api.list_models(author="org")] == ["org/one"]
assert not list(nobody.list_models(author="org"))
api.move_repo("org/one", "org/new")
assert api.model_info("org/one").id == "org/new"
api.delete_file("notes.txt", "org/new")
api.delete_folder("folder", "org/new")
assert api.list_repo_files("org/new") == [".gitattributes"]
assert snapshot_download("org/new", revision="a/b", local_dir=sys.argv[1])
api.delete_tag("org/new", tag="v1")
api.delete_branch("org/new", branch="a/b")
api.delete_repo("org/new")
refused(RepositoryNotFoundError, api.model_info, "org/new")
