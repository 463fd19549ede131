package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ztm/apps"
	"ztm/apps/cloud"
	"ztm/apps/cloud/config"
	"ztm/tunnel/answer"
	"ztm/tunnel/unixtime"
)

// client is what the commands ask the app with.
type client struct{ apps.Console }

func (k *client) ask(ctx context.Context, method, path string, in, out any) error {
	return k.Call(ctx, method, cloud.Name+"/"+path, in, out)
}

func (k *client) ls(ctx context.Context, path string, hash, offline bool) error {
	q := url.Values{"path": {path}}
	if offline {
		q.Set("offline", "1")
	}
	var list []cloud.File
	if err := k.ask(ctx, http.MethodGet, "files?"+q.Encode(), nil, &list); err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"NAME", "STATE", "SIZE", "DATE", "SOURCES", "SHARED", "HASH"}, Wide: 1}
	if hash {
		t.Wide = 0
	}
	for _, f := range list {
		if f.Directory {
			f.Path += "/"
		}
		t.Add(f.Path, string(f.State), apps.Amount(f.Size), unixtime.Text(f.Time), strconv.Itoa(f.Sources), f.Shared, f.Hash)
	}
	return k.Print(list, t)
}

func (k *client) describe(ctx context.Context, path string) error {
	var d cloud.Described
	if err := k.ask(ctx, http.MethodGet, "file?"+url.Values{"path": {path}}.Encode(), nil, &d); err != nil {
		return err
	}
	t := &apps.Table{Rows: [][]string{
		{"Path", d.Path}, {"State", string(d.State)}, {"Size", fmt.Sprintf("%s (%d bytes)", apps.Amount(d.Size), d.Size)},
		{"Date", unixtime.Text(d.Time)}, {"Content", d.Hash}, {"Published by", d.By}, {"Shared", d.Shared},
		{"Holders", strings.Join(d.Holders, " ")}, {"Blocks here", fmt.Sprintf("%d of %d, of %s", d.Here, d.Blocks, apps.Amount(d.Block))},
	}}
	for _, c := range d.Version {
		t.Add("Version", fmt.Sprintf("%d by %s", c.N, c.By))
	}
	return k.Print(d, t)
}

func (k *client) status(ctx context.Context) error {
	var s cloud.Status
	if err := k.ask(ctx, http.MethodGet, "status", nil, &s); err != nil {
		return err
	}
	t := &apps.Table{}
	t.Add("Local directory", s.Dir)
	for _, d := range s.Downloads {
		t.Add("Download "+d.ID, fmt.Sprintf("%s, %d of %d files, %s of %s, %d sources", d.Step, d.Done, d.Files,
			apps.Amount(d.Fetched), apps.Amount(d.Bytes), d.Sources))
	}
	for _, p := range s.Problems {
		t.Add(p.Path, fmt.Sprintf("%s since %s: %s", p.State, unixtime.Text(p.Since), p.Reason))
		t.Add("", "help: "+p.Help)
	}
	if len(s.Downloads)+len(s.Problems) == 0 {
		t.Add("Files", "all is done")
	}
	return k.Print(s, t)
}

func (k *client) verify(ctx context.Context, path string) error {
	var list []cloud.File
	if err := k.ask(ctx, http.MethodPost, "verify", cloud.Named{Path: path}, &list); err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"NAME", "STATE"}}
	for _, f := range list {
		t.Add(f.Path, string(f.State))
	}
	if len(list) == 0 {
		t = &apps.Table{Rows: [][]string{{"all files are as they were published"}}}
	}
	if err := k.Print(list, t); err != nil {
		return err
	}
	if len(list) > 0 {
		return &apps.ExitError{Status: 1}
	}
	return nil
}

func (k *client) config(ctx context.Context, change config.Change, set bool) error {
	ep, err := k.Endpoint(ctx)
	if err != nil {
		return err
	}
	var c config.Config
	if set {
		err = k.ask(ctx, http.MethodPatch, "config", change, &c)
	} else {
		err = k.ask(ctx, http.MethodGet, "config", nil, &c)
	}
	if err != nil {
		return err
	}
	var s cloud.Status
	if err := k.ask(ctx, http.MethodGet, "status", nil, &s); err != nil {
		s.Dir = "unknown: " + err.Error()
	}
	return k.Print(c, &apps.Table{Rows: [][]string{{"Endpoint", ep.Name}, {"Local directory", s.Dir}, {"Executable files", apps.OnOff(c.Exec)},
		{"Limit down", rateText(c.LimitDown)}, {"Limit up", rateText(c.LimitUp)}, {"Quota of each user", quotaText(c.Quota)}}})
}

func quotaText(size int64) string {
	if size == 0 {
		return "off"
	}
	return apps.Amount(size)
}

func rateText(perSecond int64) string {
	if perSecond == 0 {
		return "off"
	}
	return apps.Amount(perSecond) + "/s"
}

// change sends a request about some files and prints what became of each.
func (k *client) change(ctx context.Context, what string, n cloud.Named) error {
	var results []cloud.Result
	err := k.ask(ctx, http.MethodPost, what, n, &results)
	if err != nil {
		if what == "erase" && !n.Force && answer.CodeOf(err) == answer.Conflict {
			return hint(err, "the last copy is removed with --force")
		}
		return err
	}
	return k.results(results, n.DryRun)
}

// hint adds a hint to what is refused because of a conflict.
func hint(err error, text string) error { return &apps.HintError{Err: err, Hint: text} }

// results prints what became of files, and fails where one failed.
func (k *client) results(results []cloud.Result, dry bool) error {
	t := &apps.Table{Header: []string{"NAME", "RESULT"}}
	failed := false
	for _, r := range results {
		text := "done"
		switch {
		case r.Error != "":
			text, failed = r.Error, true
		case dry:
			text = "would be done"
		case r.Warning != "":
			text = "done; " + r.Warning
		}
		t.Add(r.Path, text)
	}
	if err := k.Print(results, t); err != nil {
		return err
	}
	if failed {
		return &apps.ExitError{Status: 1}
	}
	return nil
}

func (k *client) publish(ctx context.Context, path string, share []string) error {
	if err := k.CheckUsers(ctx, share); err != nil {
		return err
	}
	var results []cloud.Result
	if err := k.ask(ctx, http.MethodPost, "publish", cloud.Named{Path: path, Share: share}, &results); err != nil {
		return err
	}
	return k.results(results, false)
}

func (k *client) share(ctx context.Context, c cloud.ShareChange) error {
	if err := k.CheckUsers(ctx, c.Add); err != nil {
		return err
	}
	var results []cloud.Result
	if err := k.ask(ctx, http.MethodPost, "share", c, &results); err != nil {
		return err
	}
	if len(c.Remove) > 0 {
		fmt.Fprintln(k.Stderr(), "Access ends now. Copies that were made stay with those who have them.")
	}
	return k.results(results, false)
}

func (k *client) versions(ctx context.Context, path string) error {
	var list []cloud.Version
	if err := k.ask(ctx, http.MethodGet, "versions?"+url.Values{"path": {path}}.Encode(), nil, &list); err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"NAME", "VERSION", "SIZE"}}
	for _, v := range list {
		t.Add(v.Path, v.Version, apps.Amount(v.Size))
	}
	return k.Print(list, t)
}

// restore asks for what is written as PATH or PATH@VERSION. A path may have the sign itself.
func (k *client) restore(ctx context.Context, what string) error {
	r := cloud.Restoring{Path: what}
	if i := strings.LastIndexByte(what, '@'); i > 0 {
		if _, err := time.Parse("20060102-150405", what[i+1:]); err == nil {
			r = cloud.Restoring{Path: what[:i], Version: what[i+1:]}
		}
	}
	var v cloud.Version
	if err := k.ask(ctx, http.MethodPost, "restore", r, &v); err != nil {
		return err
	}
	return k.Print(v, &apps.Table{Rows: [][]string{{v.Path, "is what it was before " + unixtime.Text(v.Since)}}})
}
