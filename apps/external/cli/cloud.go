package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"ztm/apps"
	"ztm/apps/external/bundle"
	"ztm/apps/external/manifest"
	"ztm/apps/external/shelf"
	"ztm/apps/progress"
	"ztm/tunnel/splice"
)

// A version of an app is in the tree of its provider in the cloud:
//
//	/users/PROVIDER/apps/NAME/SEQUENCE/manifest.json   the signed bundle
//	/users/PROVIDER/apps/NAME/SEQUENCE/files/...       its files
//
// The cloud carries them from all endpoints that have them, and lets those read them who may. What
// comes is verified where it is installed, and not before.

const (
	cloud        = shelf.App
	manifestFile = "manifest.json"
	unpublished  = "new" // what the cloud says of a file that is here and not published
)

// tree returns where the versions of an app are.
func tree(provider, name string) string { return "/users/" + provider + "/apps/" + name }

// sequences lists the numbers of all versions that are published and that this user may read, the
// newest first.
func (k *client) sequences(ctx context.Context, at string) (list []uint64, err error) {
	var files []struct{ Path, State string }
	if err := k.Call(ctx, http.MethodGet, cloud+"/files?"+url.Values{"path": {at}}.Encode(), nil, &files); err != nil {
		return nil, err
	}
	for _, f := range files {
		rest, _ := strings.CutPrefix(f.Path, at+"/")
		number, isManifest := strings.CutSuffix(rest, "/"+manifestFile)
		if n, err := strconv.ParseUint(number, 10, 64); isManifest && err == nil && f.State != unpublished {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, func(a, b uint64) int { return cmp.Compare(b, a) })
	return list, nil
}

// mostSearched is how many versions are looked at for one that its provider calls by a name.
const mostSearched = 32

// find returns the directory of a version of a published app, and its signed bundle.
func (k *client) find(ctx context.Context, what string) (string, bundle.Signed, error) {
	id, version, _ := strings.Cut(what, "@")
	if err := manifest.CheckID(id); err != nil {
		return "", bundle.Signed{}, apps.Usagef("%v; a directory begins with . or /", err)
	}
	provider, name, _ := strings.Cut(id, "/")
	at := tree(provider, name)
	list, err := k.sequences(ctx, at)
	if err != nil {
		return "", bundle.Signed{}, err
	}
	if len(list) == 0 {
		return "", bundle.Signed{}, &apps.HintError{Err: fmt.Errorf("the app %s is not published, or not for you", id), Hint: "its provider can share it: ztm app publish DIR --share USER"}
	}
	for _, n := range list[:min(len(list), mostSearched)] {
		number := strconv.FormatUint(n, 10)
		if exact, err := strconv.ParseUint(version, 10, 64); err == nil && exact != n {
			continue
		}
		dir := at + "/" + number
		s, b, err := k.manifestOf(ctx, dir)
		if err != nil {
			return "", s, err
		}
		if err := named(b, id, n); err != nil {
			return "", s, err
		}
		if version == "" || version == number || version == b.Manifest.Version {
			return dir, s, nil
		}
	}
	return "", bundle.Signed{}, fmt.Errorf("the app %s has no published version %.40q", id, version)
}

// named checks that a bundle is what the directory in which it is published says.
func named(b *bundle.Bundle, id string, sequence uint64) error {
	if m := b.Manifest; m.ID() != id || m.Sequence != sequence {
		return fmt.Errorf("what is published as number %d of the app %s is number %d of %s", sequence, id, m.Sequence, m.ID())
	}
	return nil
}

// manifestOf fetches the signed bundle of a version.
func (k *client) manifestOf(ctx context.Context, dir string) (s bundle.Signed, b *bundle.Bundle, err error) {
	file := dir + "/" + manifestFile
	if err := k.fetch(ctx, file); err != nil {
		return s, nil, err
	}
	r, err := k.read(ctx, file)
	if err != nil {
		return s, nil, err
	}
	defer r.Close()
	if s, err = bundle.Decode(r); err != nil {
		return s, nil, err
	}
	b, err = bundle.Read(s)
	return s, b, err
}

// fetched fetches a published app, and returns it as it is to be delivered.
func (k *client) fetched(ctx context.Context, what string) (*parcel, error) {
	dir, s, err := k.find(ctx, what)
	if err != nil {
		return nil, err
	}
	if err := k.fetch(ctx, dir); err != nil {
		return nil, err
	}
	p := &parcel{signed: s, open: func(f bundle.File) (io.ReadCloser, error) { return k.read(ctx, dir+"/files/"+f.Path) }}
	p.Bundle, err = bundle.Read(s)
	return p, err
}

// download fetches a published app, to be installed later.
func (k *client) download(ctx context.Context, what string) error {
	p, err := k.fetched(ctx, what)
	if err != nil {
		return err
	}
	fmt.Fprintf(k.Stderr(), "%s %s is here. To install it:\n  ztm app install %s@%d\n", p.Manifest.ID(), apps.Printable(p.Manifest.Version), p.Manifest.ID(), p.Manifest.Sequence)
	return k.Print(p.Bundle, nil)
}

// far is the cloud of the chosen endpoint.
type far struct{ *client }

// Open implements [shelf.Cloud].
func (f far) Open(ctx context.Context, path string, query url.Values) (net.Conn, error) {
	ep, err := f.Endpoint(ctx)
	if err != nil {
		return nil, err
	}
	return f.client.Open(ctx, ep.ID, path, query)
}

// fetch has the cloud of the chosen endpoint fetch what is at or below a path.
func (k *client) fetch(ctx context.Context, path string) error {
	bar := progress.New(k.Stderr())
	defer bar.End()
	return shelf.Fetch(ctx, far{k}, path, func(d shelf.Fetching) {
		bar.Show(progress.State{Step: d.Step, Done: d.Fetched, Total: d.Bytes, Files: d.Done, Of: d.Files, Sources: d.Sources}, time.Now())
	})
}

// read opens a file that the cloud of the chosen endpoint has.
func (k *client) read(ctx context.Context, path string) (io.ReadCloser, error) {
	return shelf.Read(ctx, far{k}, path)
}

// publish signs the app in a directory, and puts it into the cloud of the chosen endpoint.
func (k *client) publish(ctx context.Context, dir string, share []string) error {
	if err := k.CheckUsers(ctx, share); err != nil {
		return err
	}
	ep, err := k.Endpoint(ctx)
	if err != nil {
		return err
	}
	b, err := bundle.Scan(dir, ep.User, 1)
	if err != nil {
		return err
	}
	known, err := k.sequences(ctx, tree(ep.User, b.Manifest.Name))
	if err != nil {
		return err
	}
	p, err := k.packed(ctx, dir, slices.Max(append(known, 0)))
	if err != nil {
		return err
	}
	if err := k.put(ctx, p, share); err != nil {
		return err
	}
	who := "On another endpoint of yours"
	switch {
	case slices.Contains(share, "*"):
		who = "On any endpoint of the mesh"
	case len(share) > 0:
		who = "On an endpoint of " + strings.Join(share, ", ")
	}
	m := &p.Manifest
	fmt.Fprintf(k.Stderr(), "Published %s %s (sequence %d). %s:\n  ztm app install %s\n", m.ID(), apps.Printable(m.Version), m.Sequence, who, m.ID())
	return k.Print(p.Bundle, nil)
}

// put puts a bundle into the cloud, its manifest last: who sees that sees all of it.
func (k *client) put(ctx context.Context, p *parcel, share []string) error {
	conn, err := far{k}.Open(ctx, cloud+"/put", nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	sent := make(chan error, 1)
	go func() { sent <- putAll(conn, p, share) }() // ends with the flow
	if err := shelf.Results(conn, len(p.Files)+1); err != nil {
		conn.Close()
		return errors.Join(err, <-sent)
	}
	return <-sent
}

// putAll writes all files of a bundle to a flow of the cloud.
func putAll(w net.Conn, p *parcel, share []string) error {
	dir := fmt.Sprintf("apps/%s/%d/", p.Manifest.Name, p.Manifest.Sequence)
	for _, f := range p.Files {
		r, err := p.open(f)
		if err != nil {
			return err
		}
		err = shelf.Head{Path: dir + "files/" + f.Path, Size: f.Size, Time: p.Time, Exec: f.Exec, Share: share}.Send(w, r)
		r.Close()
		if err != nil {
			return err
		}
	}
	body, err := json.Marshal(p.signed)
	if err != nil {
		return err
	}
	if err := (shelf.Head{Path: dir + manifestFile, Size: int64(len(body)), Time: p.Time, Share: share}).Send(w, strings.NewReader(string(body))); err != nil {
		return err
	}
	return splice.CloseWrite(w)
}

// unpublish has the cloud publish an app, or one version of it, no longer.
func (k *client) unpublish(ctx context.Context, what string) error {
	name, sequence, one := strings.Cut(what, "@")
	path := "apps/" + name
	if one {
		if _, err := strconv.ParseUint(sequence, 10, 64); err != nil {
			return apps.Usagef("%q is no sequence number", sequence)
		}
		path += "/" + sequence
	}
	if strings.Contains(name, "/") || name == "" {
		return apps.Usagef("want the NAME of an app of yours")
	}
	return k.Call(ctx, http.MethodPost, cloud+"/unpublish", map[string]string{"path": path}, nil)
}
