package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"ztm/apps"
	"ztm/apps/proxy"
	"ztm/apps/proxy/policy"
)

// manager is what the commands do: it asks the API of the chosen endpoint and prints the answer.
type manager struct{ apps.Console }

// config makes a change, if it is one, and the changes of a credential, and shows the configuration.
func (m manager) config(ctx context.Context, ch *proxy.Change, addUser, removeUser string) error {
	var v proxy.View
	if ch != nil {
		if err := m.Call(ctx, http.MethodPatch, "proxy/config", ch, &v); err != nil {
			return err
		}
	}
	if removeUser != "" {
		if err := m.Call(ctx, http.MethodDelete, "proxy/credentials/"+url.PathEscape(removeUser), nil, &v); err != nil {
			return err
		}
	}
	if addUser != "" {
		password, err := m.password(addUser)
		if err != nil {
			return err
		}
		in := map[string]string{"password": password}
		if err := m.Call(ctx, http.MethodPut, "proxy/credentials/"+url.PathEscape(addUser), in, &v); err != nil {
			return err
		}
	}
	if err := m.Call(ctx, http.MethodGet, "proxy/config", nil, &v); err != nil {
		return err
	}
	for _, w := range v.Warnings {
		fmt.Fprintf(m.Stderr(), "warning: %s\n", apps.Printable(w))
	}
	return m.Print(v, tableOf(v))
}

// tableOf has a line for each setting, and further lines for further entries of a list.
func tableOf(v proxy.View) *apps.Table {
	t := &apps.Table{}
	add := func(label, none string, entries []string) {
		if len(entries) == 0 {
			entries = []string{none}
		}
		for _, e := range entries {
			t.Add(label, e)
			label = ""
		}
	}
	var routes []string
	for _, r := range v.Routes {
		exit := "direct"
		if r.Exit != "" {
			exit = "via " + cmp.Or(r.Name, string(r.Exit))
		}
		routes = append(routes, r.Pattern+" "+exit)
	}
	t.Add("Endpoint", v.Endpoint)
	add("Listen", "(not listening)", v.Listens)
	add("DNS", "(off)", orNone(v.DNS))
	add("Credentials", "(none)", v.Credentials)
	add("Routes", "(none)", routes)
	add("Trusted Users", "(own user only)", v.Trust)
	t.Add("Without Exit", v.Default)
	add("Targets", "(not an exit)", v.Targets)
	add("Excluded Targets", "(none)", v.Exclusions)
	return t
}

func orNone(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// password asks for a password where somebody can answer, and reads a line where not.
func (m manager) password(user string) (string, error) {
	if f, ok := m.Stdin().(*os.File); ok {
		if restore, err := hideInput(f); err == nil {
			defer restore()
			fmt.Fprintf(m.Stderr(), "Password for %s: ", user)
			defer fmt.Fprintln(m.Stderr())
		}
	}
	const longest = 255 // bytes: what SOCKS carries
	line, err := bufio.NewReader(io.LimitReader(m.Stdin(), longest+2)).ReadString('\n')
	if err != nil && (err != io.EOF || line == "") {
		return "", errors.New("there is no password on standard input")
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// rules lists the rules, after the change that edit makes, which may be nil.
func (m manager) rules(ctx context.Context, edit func(out *[]policy.Rule) error) error {
	var all []policy.Rule
	if edit == nil {
		edit = func(out *[]policy.Rule) error { return m.Call(ctx, http.MethodGet, "proxy/rules", nil, out) }
	}
	if err := edit(&all); err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"", "TARGETS", "USERS", "ACTION"}}
	for i, r := range all {
		t.Add("#"+strconv.Itoa(i), strings.Join(r.Targets, " "), strings.Join(r.Users, " "), r.Action)
	}
	return m.Print(all, t)
}

func (m manager) addRule(ctx context.Context, r policy.Rule, at string) func(*[]policy.Rule) error {
	path := "proxy/rules"
	if at != "" {
		path += "?at=" + at
	}
	return func(out *[]policy.Rule) error { return m.Call(ctx, http.MethodPost, path, r, out) }
}

func (m manager) setRule(ctx context.Context, r policy.Rule, at string) func(*[]policy.Rule) error {
	return func(out *[]policy.Rule) error { return m.Call(ctx, http.MethodPut, "proxy/rules/"+at, r, out) }
}

func (m manager) deleteRule(ctx context.Context, at string) func(*[]policy.Rule) error {
	return func(out *[]policy.Rule) error { return m.Call(ctx, http.MethodDelete, "proxy/rules/"+at, nil, out) }
}

// status shows what the proxy is doing and which exits it sees.
func (m manager) status(ctx context.Context) error {
	var s proxy.Status
	if err := m.Call(ctx, http.MethodGet, "proxy/status", nil, &s); err != nil {
		return err
	}
	t := &apps.Table{}
	for _, l := range s.Listeners {
		what, state := "Listen", "open"
		if l.DNS {
			what = "DNS"
		}
		if !l.Open {
			state = l.Error
		}
		t.Add(what, cmp.Or(l.Bound, l.Listen), state)
	}
	t.Add("Clients", strconv.Itoa(s.Clients), fmt.Sprintf("%d in all", s.Total))
	t.Add("Flows", strconv.Itoa(s.Flows), "of peers, leaving here")
	for _, e := range s.Exits {
		t.Add("Exit", e.Name, describe(e))
	}
	return m.Print(s, t)
}

func describe(e proxy.ExitStatus) string {
	words := []string{"of user " + e.User}
	switch {
	case e.Error != "":
		words = append(words, e.Error)
	case len(e.Targets) == 0:
		words = append(words, "serves nothing")
	case e.RTT == 0: // here
		words = append(words, strings.Join(e.Targets, " "))
	default:
		words = append(words, fmt.Sprintf("%.1fms", e.RTT), strings.Join(e.Targets, " "))
	}
	if !e.Trusted {
		words = append(words, "(used by --add-via alone: its user is not trusted)")
	}
	return strings.Join(words, ", ")
}

// where shows where a connection would go.
func (m manager) where(ctx context.Context, target string) error {
	var w proxy.Where
	if err := m.Call(ctx, http.MethodGet, "proxy/where?"+url.Values{"target": {target}}.Encode(), nil, &w); err != nil {
		return err
	}
	t := &apps.Table{}
	for _, s := range w.Steps {
		by := cmp.Or(strings.TrimSpace(s.By+" "+s.Pattern), "-")
		if len(s.Exits) == 0 {
			t.Add("from here", by, "")
		}
		for _, e := range s.Exits {
			t.Add("at "+e.Name, by, cmp.Or(e.Error, "of user "+e.User))
		}
	}
	if len(w.Steps) == 0 {
		t.Add("nowhere", w.Reason, "")
	}
	return m.Print(w, t)
}
