package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"ztm/apps"
	"ztm/apps/cloud"
	"ztm/apps/cloud/entry"
	"ztm/apps/cloud/load"
	"ztm/apps/cloud/state"
	"ztm/apps/progress"
)

// upload streams a file or directory to the agent, which writes and publishes it.
func (k *client) upload(ctx context.Context, src, to string, share []string) error {
	if err := k.CheckUsers(ctx, share); err != nil {
		return err
	}
	files, left, err := k.sources(src, to, share)
	if err != nil {
		return err
	}
	ep, err := k.Endpoint(ctx)
	if err != nil {
		return err
	}
	conn, err := k.Open(ctx, ep.ID, cloud.Name+"/put", nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	bar := progress.New(k.Stderr())
	out := &sender{Writer: bufio.NewWriterSize(conn, 64<<10), bar: bar}
	sent := make(chan error, 1)
	go func() { sent <- out.all(conn, files) }() // awaited below
	results, err := readResults(conn, len(files))
	if err != nil || !out.flushed.Load() {
		conn.Close() // an agent that has said all and reads no more would hold the sender
	}
	sending := <-sent
	bar.End()
	if err == nil && (!out.flushed.Load() || len(results) < out.sent) {
		err = fmt.Errorf("the agent ended the upload after %d files", len(results))
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted; what was published is published: run the same command again for the rest")
	case sending != nil && (err == nil || errors.Is(err, net.ErrClosed)): // otherwise it comes from what ended the reading
		return sending
	case err != nil:
		return err
	}
	if err := k.uploaded(append(results, append(left, out.left...)...), share); err != nil {
		return err
	}
	if len(share) > 0 && len(results) > 0 && files[0].name != src {
		fmt.Fprintf(k.Stderr(), "Files that come to it later are shared with: ztm cloud share %s --add-user USER\n", state.Quoted(common(results)))
	}
	return nil
}

// uploaded says what was published, and what others type to fetch it.
func (k *client) uploaded(results []cloud.Result, share []string) error {
	failed := 0
	for _, r := range results {
		if r.Error != "" {
			failed++
			fmt.Fprintf(k.Stderr(), "ztm: %s: %s\n", apps.Printable(r.Path), apps.Printable(r.Error))
		}
	}
	if err := k.Print(results, nil); err != nil {
		return err
	}
	if failed > 0 {
		fmt.Fprintf(k.Stderr(), "%d of %d files are published; the same command goes on with the rest\n", len(results)-failed, len(results))
		return &apps.ExitError{Status: 1}
	}
	who := "On another endpoint of yours"
	if len(share) > 0 {
		who = "At " + strings.Join(share, ", ")
	}
	fmt.Fprintf(k.Stderr(), "Published. %s:\n  ztm cloud download %s\n", who, state.Quoted(common(results)))
	return nil
}

// common returns the path of the one file, or the directory that all are in.
func common(results []cloud.Result) string {
	path := results[0].Path
	for _, r := range results[1:] {
		for path != "" && !entry.Below(r.Path, path) {
			path = path[:max(0, strings.LastIndexByte(path, '/'))]
		}
	}
	return path
}

// download fetches what is at or below a path, and shows how that goes.
func (k *client) download(ctx context.Context, path, to string, detach bool) error {
	var out *target
	if to != "" && to != "-" && !detach { // first: nobody waits for a file and hears then that it cannot be written
		var err error
		if out, err = create(to); err != nil {
			return err
		}
		defer out.discard()
	}
	var begun cloud.Started
	if err := k.ask(ctx, http.MethodPost, "downloads", cloud.Named{Path: path}, &begun); err != nil {
		return err
	}
	if detach {
		fmt.Fprintf(k.Stderr(), "Download %s runs in the background. See: ztm cloud status\n", apps.Printable(begun.ID))
		return k.Print(begun, nil)
	}
	d, err := k.follow(ctx, begun.Progress)
	if ctx.Err() != nil {
		return k.interrupted(d, path)
	}
	if err != nil {
		return err
	}
	for _, name := range d.Aside {
		fmt.Fprintf(k.Stderr(), "A file that was edited here is now %s\n", apps.Printable(name))
	}
	for _, r := range d.Failed {
		fmt.Fprintf(k.Stderr(), "ztm: %s: %s\n", apps.Printable(r.Path), apps.Printable(r.Error))
	}
	if err := k.Print(d, nil); err != nil {
		return err
	}
	if d.Done < d.Files {
		return &apps.ExitError{Status: 1}
	}
	if to != "" {
		return k.get(ctx, path, out)
	}
	fmt.Fprintf(k.Stderr(), "Fetched to %s\n", apps.Printable(begun.Place))
	return nil
}

// follow shows a download until it ends.
func (k *client) follow(ctx context.Context, d load.Progress) (load.Progress, error) {
	bar := progress.New(k.Stderr())
	defer bar.End()
	for !d.Ended {
		s := progress.State{Step: d.Step, Done: d.Fetched, Total: d.Bytes, Files: d.Done, Of: d.Files, Sources: d.Sources}
		if len(d.Current) > 0 {
			s.Name = d.Current[0]
		}
		bar.Show(s, time.Now())
		if err := k.ask(ctx, http.MethodGet, "downloads/"+d.ID+"?wait=1", nil, &d); err != nil {
			return d, err
		}
	}
	return d, nil
}

// interrupted ends a download that a person has interrupted, and says how to go on.
func (k *client) interrupted(d load.Progress, path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := k.ask(ctx, http.MethodDelete, "downloads/"+d.ID, nil, &d); err != nil {
		return err
	}
	return hint(fmt.Errorf("interrupted after %d of %d files; what has come stays", d.Done, d.Files), "to go on: ztm cloud download "+state.Quoted(path))
}

func (k *client) downloads(ctx context.Context) error {
	var list []load.Progress
	if err := k.ask(ctx, http.MethodGet, "downloads", nil, &list); err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"ID", "STATE", "FILES", "SIZE", "FAILED"}}
	for _, d := range list {
		step := d.Step
		if d.Ended {
			step = "ended"
		}
		t.Add(d.ID, step, fmt.Sprintf("%d of %d", d.Done, d.Files), apps.Amount(d.Fetched)+" of "+apps.Amount(d.Bytes), fmt.Sprint(len(d.Failed)))
	}
	return k.Print(list, t)
}

func (k *client) cancel(ctx context.Context, id string) error {
	var d load.Progress
	return k.ask(ctx, http.MethodDelete, "downloads/"+url.PathEscape(id), nil, &d)
}

// get writes the content of a file that the agent has; nil is standard output.
func (k *client) get(ctx context.Context, path string, to *target) error {
	ep, err := k.Endpoint(ctx)
	if err != nil {
		return err
	}
	conn, err := k.Open(ctx, ep.ID, cloud.Name+"/get", url.Values{"path": {path}})
	if err != nil {
		return err
	}
	defer conn.Close()
	if to == nil {
		_, err = io.Copy(k.Stdout(), conn)
		return err
	}
	return to.fill(conn)
}
