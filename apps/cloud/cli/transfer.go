package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ztm/apps"
	"ztm/apps/cloud"
	"ztm/apps/cloud/entry"
	"ztm/apps/cloud/load"
	"ztm/apps/progress"
	"ztm/tunnel/unixtime"
)

// upload streams a file or directory to the agent, which writes and publishes it.
func (k *client) upload(ctx context.Context, src, to string, share []string) error {
	if err := k.CheckUsers(ctx, share); err != nil {
		return err
	}
	files, err := k.sources(src, to, share)
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
	sent := make(chan error, 1)
	go func() { sent <- k.send(conn, files, bar) }() // awaited below
	results, err := readResults(conn, len(files))
	if err != nil {
		conn.Close()
	}
	sending := <-sent
	bar.End()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted; what was published is published: run the same command again for the rest")
	case sending != nil:
		return sending
	case err != nil:
		return err
	}
	if err := k.uploaded(results, share); err != nil {
		return err
	}
	if len(share) > 0 && files[0].name != src {
		fmt.Fprintf(k.Stderr(), "Files that come to it later are shared with: ztm cloud share %s --add-user USER\n", quoted(common(results)))
	}
	return nil
}

// file is one that is uploaded.
type file struct {
	name string // here
	cloud.Upload
}

// sources lists the files of what is uploaded.
func (k *client) sources(src, to string, share []string) (files []file, err error) {
	st, err := os.Stat(src)
	if err != nil {
		return nil, err
	}
	if to == "" {
		abs, err := filepath.Abs(src)
		if err != nil {
			return nil, err
		}
		to = filepath.Base(abs)
	}
	if !st.IsDir() {
		if !st.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is not a file", src)
		}
		return []file{newFile(src, to, st, share)}, nil
	}
	err = filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			fmt.Fprintf(k.Stderr(), "ztm: left out, as it is no file: %s\n", apps.Printable(path))
			return nil
		}
		files = append(files, newFile(path, strings.TrimSuffix(to, "/")+"/"+filepath.ToSlash(rel), info, share))
		return nil
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%s has no files", src)
	}
	return files, err
}

func newFile(name, to string, st fs.FileInfo, share []string) file {
	return file{name, cloud.Upload{Path: to, Size: st.Size(), Time: unixtime.MillisNear(st.ModTime()), Exec: st.Mode()&0o100 != 0, Share: share}}
}

// send sends all files.
func (k *client) send(conn net.Conn, files []file, bar *progress.Bar) error {
	s := progress.State{Step: "uploading", Of: len(files)}
	for _, f := range files {
		s.Total += f.Size
	}
	w := bufio.NewWriterSize(conn, 64<<10)
	for _, f := range files {
		s.Name = f.Path
		if err := sendFile(w, f, func(n int) {
			s.Done += int64(n)
			bar.Show(s, time.Now())
		}); err != nil {
			conn.Close()
			return err
		}
		s.Files++
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// sendFile sends one file. One that has become shorter ends the upload; one that has become longer
// is sent as far as it was.
func sendFile(w *bufio.Writer, f file, moved func(int)) error {
	head, err := json.Marshal(f.Upload)
	if err != nil {
		return err
	}
	in, err := os.Open(f.name)
	if err != nil {
		return err
	}
	defer in.Close()
	w.Write(append(head, '\n'))
	n, err := io.Copy(w, meter{io.LimitReader(in, f.Size), moved})
	if err == nil && n < f.Size {
		err = fmt.Errorf("%s has become shorter while it was sent", f.name)
	}
	return err
}

type meter struct {
	io.Reader
	moved func(int)
}

func (m meter) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.moved(n)
	return n, err
}

// readResults reads what became of so many files.
func readResults(r io.Reader, count int) (results []cloud.Result, err error) {
	d := json.NewDecoder(r)
	for len(results) < count {
		var one cloud.Result
		if err := d.Decode(&one); err != nil {
			return results, fmt.Errorf("the agent ended the upload after %d files: %w", len(results), err)
		}
		results = append(results, one)
	}
	return results, nil
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
		return &apps.ExitError{Status: 1}
	}
	who := "On another endpoint of yours"
	if len(share) > 0 {
		who = "At " + strings.Join(share, ", ")
	}
	fmt.Fprintf(k.Stderr(), "Published. %s:\n  ztm cloud download %s\n", who, quoted(common(results)))
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

// quoted writes a path so that a shell takes it as one word.
func quoted(path string) string {
	plain := func(r rune) bool {
		return !(r == '/' || r == '.' || r == '_' || r == '-' || r == '@' || r == '+' || r == ':' || r == ',' ||
			'0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	}
	if strings.IndexFunc(path, plain) < 0 {
		return path
	}
	return "'" + strings.ReplaceAll(apps.Printable(path), "'", `'\''`) + "'"
}

// download fetches what is at or below a path, and shows how that goes.
func (k *client) download(ctx context.Context, path, to string, detach bool) error {
	var d load.Progress
	if err := k.ask(ctx, http.MethodPost, "downloads", cloud.Named{Path: path}, &d); err != nil {
		return err
	}
	if detach {
		fmt.Fprintf(k.Stderr(), "Download %s runs in the background. See: ztm cloud status\n", apps.Printable(d.ID))
		return k.Print(d, nil)
	}
	d, err := k.follow(ctx, d)
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
		return k.get(ctx, path, to)
	}
	k.tellPlace(ctx, path)
	return nil
}

// tellPlace says where a download is, if that can be told.
func (k *client) tellPlace(ctx context.Context, path string) {
	var s cloud.Status
	ep, err := k.Endpoint(ctx)
	if err == nil {
		err = k.ask(ctx, http.MethodGet, "status", nil, &s)
	}
	if err != nil {
		return
	}
	if !strings.HasPrefix(path, "/") {
		path = "/users/" + ep.User + "/" + path
	}
	fmt.Fprintf(k.Stderr(), "Fetched to %s\n", apps.Printable(s.Dir+filepath.FromSlash(path)))
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
	return hint(fmt.Errorf("interrupted after %d of %d files; what has come stays", d.Done, d.Files), "to go on: ztm cloud download "+quoted(path))
}

func (k *client) downloads(ctx context.Context) error {
	var list []load.Progress
	if err := k.ask(ctx, http.MethodGet, "downloads", nil, &list); err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"ID", "STATE", "FILES", "SIZE", "FAILED"}}
	for _, d := range list {
		state := d.Step
		if d.Ended {
			state = "ended"
		}
		t.Add(d.ID, state, fmt.Sprintf("%d of %d", d.Done, d.Files), apps.Amount(d.Fetched)+" of "+apps.Amount(d.Bytes), fmt.Sprint(len(d.Failed)))
	}
	return k.Print(list, t)
}

func (k *client) cancel(ctx context.Context, id string) error {
	var d load.Progress
	return k.ask(ctx, http.MethodDelete, "downloads/"+url.PathEscape(id), nil, &d)
}

// get writes the content of a file that the agent has.
func (k *client) get(ctx context.Context, path, to string) error {
	ep, err := k.Endpoint(ctx)
	if err != nil {
		return err
	}
	conn, err := k.Open(ctx, ep.ID, cloud.Name+"/get", url.Values{"path": {path}})
	if err != nil {
		return err
	}
	defer conn.Close()
	if to == "-" {
		_, err = io.Copy(k.Stdout(), conn)
		return err
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, conn)
	return errors.Join(err, f.Close())
}
