package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"ztm/agent/audit"
	"ztm/agent/console"
	"ztm/apps"
	"ztm/tunnel/identity"
)

// commands holds the Actions of the commands.
type commands struct{ *console.Console }

// path is where the chosen endpoint has its log.
func (c commands) path(ctx context.Context, q url.Values, below ...string) (string, error) {
	path, err := c.At(ctx, append([]string{"audit"}, below...)...)
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return path, err
}

// show prints the lines that there are, and with follow those that come.
func (c commands) show(ctx context.Context, f audit.Filter, follow bool) error {
	if f.Peer != "" { // a line has an ID always, and a name where it was known
		if ep, err := c.Resolve(ctx, f.Peer); err == nil {
			f.Peer = string(ep.ID)
		}
	}
	for wait := false; ; wait = true {
		path, err := c.path(ctx, f.Query(wait))
		if err != nil {
			return err
		}
		lines := []audit.Line{}
		if err := c.Do(ctx, http.MethodGet, path, nil, &lines); err != nil {
			if follow && ctx.Err() != nil {
				return nil // that is how following ends
			}
			return err
		}
		if err := c.print(ctx, lines, follow); err != nil || !follow {
			return err
		}
		if len(lines) > 0 {
			f.After = lines[len(lines)-1].Seq
		}
	}
}

// print writes lines in the format that was asked for. JSON that goes on is one object a line.
func (c commands) print(ctx context.Context, lines []audit.Line, follow bool) error {
	if follow && c.Structured() {
		for _, l := range lines {
			if _, err := c.Stdout().Write(append(l.Encode(), '\n')); err != nil {
				return err
			}
		}
		return nil
	}
	t := &apps.Table{}
	if !c.Structured() {
		c.name(ctx, lines)
	}
	for _, l := range lines {
		t.Add(sentence(l))
	}
	return c.Print(lines, t)
}

// name fills in the names of peers that the endpoint did not know, as far as the directory does.
func (c commands) name(ctx context.Context, lines []audit.Line) {
	unknown := func(l audit.Line) bool { return l.Peer == "" && l.PeerID != "" }
	if !slices.ContainsFunc(lines, unknown) {
		return
	}
	eps, err := c.Endpoints(ctx, apps.Filter{})
	if err != nil {
		return // the IDs are right without them
	}
	names := map[identity.ID]string{}
	for _, ep := range eps {
		names[ep.ID] = ep.Name
	}
	for i := range lines {
		if unknown(lines[i]) {
			lines[i].Peer = names[lines[i].PeerID]
		}
	}
}

// sentence is a line for people.
func sentence(l audit.Line) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", l.Time, verb(l))
	if l.User != "" {
		fmt.Fprintf(&b, " %s", l.User)
	}
	if from := l.Peer; from != "" || l.PeerID != "" {
		if from == "" {
			from = string(l.PeerID)
		}
		fmt.Fprintf(&b, " (%s)", from)
	}
	for _, s := range []string{l.App, l.Target} {
		if s != "" {
			b.WriteString(" " + s)
		}
	}
	if details := details(l); len(details) > 0 {
		b.WriteString(": " + strings.Join(details, "; "))
	}
	return b.String()
}

// verb says what happened.
func verb(l audit.Line) string {
	switch {
	case l.Event == audit.Merged:
		return fmt.Sprintf("%d more: %s", l.Count, map[string]string{audit.OK: "flow", audit.No: "refused", audit.End: "cut"}[l.Result])
	case l.Result == audit.End:
		return "cut"
	}
	return string(l.Event)
}

// details says what else is known of a line.
func details(l audit.Line) (out []string) {
	if l.Result == audit.No {
		out = append(out, string(l.Reason))
	}
	if l.Rule != "" {
		out = append(out, l.Rule)
	}
	if l.Detail != "" {
		out = append(out, l.Detail)
	}
	if l.Ref != "" {
		out = append(out, "ref "+l.Ref)
	}
	if l.In > 0 || l.Out > 0 {
		out = append(out, fmt.Sprintf("%d B in, %d B out", l.In, l.Out))
	}
	if l.Millis > 0 && l.Event != audit.Merged {
		out = append(out, (time.Duration(l.Millis) * time.Millisecond).String())
	}
	if l.Event == audit.Forgot {
		out = append(out, fmt.Sprintf("%d lines", l.Count))
	}
	return out
}

// forget drops the lines about a user.
func (c commands) forget(ctx context.Context, user string) error {
	path, err := c.path(ctx, nil, "users", user)
	if err != nil {
		return err
	}
	n := 0
	if err := c.Do(ctx, http.MethodDelete, path, nil, &n); err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("there is no line about user %s here", user)
	}
	c.Note("%d lines about %s are dropped", n, user)
	return nil
}
