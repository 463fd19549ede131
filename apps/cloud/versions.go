package cloud

import (
	"context"
	"net/http"
	"time"

	"ztm/apps/cloud/entry"
	"ztm/apps/cloud/trash"
	"ztm/apps/cloud/tree"
	"ztm/tunnel/answer"
)

// Version is an earlier content of a file, which the trash of this endpoint has.
type Version struct {
	Path    string    `json:"path"`
	Version string    `json:"version"` // when it was replaced or deleted: what restore takes
	Since   time.Time `json:"since"`
	Size    int64     `json:"size"`
}

// versionForm is how a version is written.
const versionForm = "20060102-150405"

// versions lists what the trash has of a file, or of all below a path, the newest first.
func (a *App) versions(name string) ([]Version, error) {
	list := []Version{}
	return list, a.eachVersion(name, func(_ *tree.Tree, v Version, _ trash.Item) bool {
		list = append(list, v)
		return true
	})
}

// eachVersion calls a function for each version, until it returns false.
func (a *App) eachVersion(name string, each func(*tree.Tree, Version, trash.Item) bool) error {
	user, path, err := a.split(name)
	if err != nil {
		return err
	}
	t, err := a.local()
	if err != nil {
		return err
	}
	items, err := t.Trashed()
	if err != nil {
		return err
	}
	at := "users"
	if user != "" {
		at += "/" + user
	}
	if path != "" {
		at += "/" + path
	}
	for _, i := range items {
		p := string(i.Path.Bytes())
		if entry.Below(p, at) && !each(t, Version{Path: "/" + p, Version: i.Since.Format(versionForm), Since: i.Since, Size: i.Size}, i) {
			return nil
		}
	}
	return nil
}

// Restoring asks for a version of a file.
type Restoring struct {
	Path    string `json:"path"`
	Version string `json:"version,omitempty"` // "" is the newest
}

// restore puts a version back where it was. What stands there goes to the trash. In this user's own
// tree it is published then, so that all have it.
func (a *App) restore(ctx context.Context, r Restoring) (v Version, err error) {
	user, path, err := a.split(r.Path)
	if err != nil {
		return v, err
	}
	var in *tree.Tree
	var item trash.Item
	err = a.eachVersion(r.Path, func(t *tree.Tree, have Version, i trash.Item) bool {
		if have.Path == NameOf(user, path) && (r.Version == "" || r.Version == have.Version) {
			in, v, item = t, have, i
		}
		return in == nil
	})
	if err != nil {
		return v, err
	}
	if in == nil {
		return v, answer.Errorf(answer.NotFound, "the trash has no such version of %s", r.Path)
	}
	if err := in.Restore(item, a.now()); err != nil {
		return v, err
	}
	if user != a.author().User {
		return v, nil
	}
	results, err := a.publish(ctx, []string{path}, nil)
	if err == nil && len(results) == 1 && results[0].Error != "" {
		err = answer.Errorf(answer.Conflict, "it is restored, and not published: %s", results[0].Error)
	}
	return v, err
}

func (a *App) postRestore(r *http.Request) (any, error) {
	var req Restoring
	if err := answer.Decode(r, maxBody, &req); err != nil {
		return nil, err
	}
	v, err := a.restore(r.Context(), req)
	if err != nil {
		return nil, err
	}
	return v, nil
}
