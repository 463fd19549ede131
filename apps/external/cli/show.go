package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"ztm/apps"
	"ztm/apps/external"
	"ztm/apps/external/install"
	"ztm/apps/external/manifest"
	"ztm/apps/external/run"
)

// client is what the commands ask with.
type client struct{ apps.Console }

// ask sends a request about apps to the chosen endpoint.
func (k *client) ask(ctx context.Context, method, path string, in, out any) error {
	return k.Call(ctx, method, external.Name+"/apps"+path, in, out)
}

// installed lists what is installed at the chosen endpoint, or tried out.
func (k *client) installed(ctx context.Context) (list []external.Shown, err error) {
	err = k.ask(ctx, http.MethodGet, "", nil, &list)
	return list, err
}

// resolve returns "PROVIDER/NAME" for a name that is installed once, or tried out.
func (k *client) resolve(ctx context.Context, name string) (string, error) {
	if strings.Contains(name, "/") {
		if err := manifest.CheckID(name); err != nil {
			return "", apps.Usagef("%v", err)
		}
		return name, nil
	}
	list, err := k.installed(ctx)
	if err != nil {
		return "", err
	}
	var found []string
	for _, a := range list {
		if id := a.Manifest.ID(); a.Manifest.Name == name && !slices.Contains(found, id) { // it may be installed, and tried out
			found = append(found, id)
		}
	}
	switch len(found) {
	case 0:
		return "", &apps.HintError{Err: fmt.Errorf("no app %q is installed", name), Hint: "see: ztm get app"}
	case 1:
		return found[0], nil
	}
	return "", apps.Usagef("%q is installed from several providers: %s", name, strings.Join(found, ", "))
}

func (k *client) list(ctx context.Context) error {
	list, err := k.installed(ctx)
	if err != nil {
		return err
	}
	own, err := k.builtins(ctx)
	if err != nil {
		return err
	}
	list = append(own, list...)
	t := &apps.Table{Header: []string{"APP", "VERSION", "STATE", "USERS", "PROBLEM"}}
	for i := range list {
		a := &list[i]
		t.Add(called(a), apps.Printable(a.Manifest.Version), state(a), strings.Join(a.Users, ","), apps.Printable(problem(a)))
	}
	return k.Print(list, t)
}

// builtins lists the apps that the chosen endpoint has without an installation.
func (k *client) builtins(ctx context.Context) (list []external.Shown, err error) {
	ep, err := k.Endpoint(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	if err := k.Call(ctx, http.MethodGet, external.Name+"/builtin", nil, &names); err != nil {
		return nil, err
	}
	for _, name := range names {
		a := external.Shown{BuiltIn: true}
		a.Manifest.Name, a.Manifest.Version = name, ep.Version
		a.Status.State = run.Running
		list = append(list, a)
	}
	return list, nil
}

// called is the name of an app: that of one of the binary has no provider.
func called(a *external.Shown) string {
	if a.BuiltIn {
		return a.Manifest.Name
	}
	return a.Manifest.ID()
}

// state is what an app does, in a word or two.
func state(a *external.Shown) string {
	switch s := string(a.Status.State); {
	case a.BuiltIn:
		return "built in"
	case a.Trial:
		return s + " (tried out)"
	case a.Disabled:
		return "disabled"
	case a.Unconfined:
		return s + " (unconfined)"
	default:
		return s
	}
}

// problem is what is wrong with an app.
func problem(a *external.Shown) string {
	if a.Problem != "" || a.Status.State == run.Running {
		return a.Problem
	}
	return a.Status.Error
}

func (k *client) describe(ctx context.Context, name string) error {
	if own, err := k.builtins(ctx); err != nil {
		return err
	} else if i := slices.IndexFunc(own, func(a external.Shown) bool { return a.Manifest.Name == name }); i >= 0 {
		return k.Print(own[i], &apps.Table{Header: []string{"FIELD", "VALUE"}, Rows: [][]string{
			{"app", name}, {"version", apps.Printable(own[i].Manifest.Version)}, {"state", "built in"}, {"commands", "ztm " + name + " --help"}}})
	}
	id, err := k.resolve(ctx, name)
	if err != nil {
		return err
	}
	var a external.Shown
	if err := k.ask(ctx, http.MethodGet, "/"+id, nil, &a); err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"FIELD", "VALUE"}}
	add := func(field, value string) {
		if value != "" {
			t.Add(field, apps.Printable(value))
		}
	}
	add("app", a.Manifest.ID())
	add("version", fmt.Sprintf("%s (sequence %d)", a.Manifest.Version, a.Manifest.Sequence))
	add("signed by", k.signer(ctx, &a))
	if a.Manifest.Command != "" {
		add("command", "ztm "+a.Manifest.Name+": "+a.Manifest.Command)
	}
	if a.Previous != 0 {
		add("previous", fmt.Sprintf("sequence %d", a.Previous))
	}
	add("state", state(&a))
	add("ended", a.Status.Ended)
	for _, right := range a.Granted.Beyond(manifest.Rights{}) {
		add("may", right)
	}
	add("users", strings.Join(a.Users, ", "))
	add("confinement", a.Status.Confined)
	if a.Status.Memory > 0 {
		add("memory", apps.Amount(a.Status.Memory))
	}
	if a.Status.Restarts > 0 {
		add("restarts", fmt.Sprint(a.Status.Restarts))
	}
	add("problem", a.Problem)
	add("last error", a.Status.Error)
	add("directory", a.Dir)
	return k.Print(a, t)
}

// signer is the endpoint that signed an app, with its name where the mesh still has it.
func (k *client) signer(ctx context.Context, a *external.Shown) string {
	if a.Signer == "" {
		return ""
	}
	if ep, err := k.Resolve(ctx, string(a.Signer)); err == nil {
		return fmt.Sprintf("%s (%s) of %s", ep.Name, a.Signer, a.Manifest.Provider)
	}
	return fmt.Sprintf("%s of %s", a.Signer, a.Manifest.Provider)
}

// command does something with an app that has a name alone.
func (k *client) command(ctx context.Context, name, verb string) error {
	id, err := k.resolve(ctx, name)
	if err != nil {
		return err
	}
	var a external.Shown
	if err := k.ask(ctx, http.MethodPost, "/"+id+"/"+verb, nil, &a); err != nil {
		return err
	}
	fmt.Fprintf(k.Stderr(), "%s %s (sequence %d): %s\n", id, apps.Printable(a.Manifest.Version), a.Manifest.Sequence, state(&a))
	return k.Print(a, nil)
}

func (k *client) change(ctx context.Context, name string, c install.Change) error {
	id, err := k.resolve(ctx, name)
	if err != nil {
		return err
	}
	var a external.Shown
	if err := k.ask(ctx, http.MethodPatch, "/"+id, c, &a); err != nil {
		return err
	}
	return k.Print(a, nil)
}

func (k *client) erase(ctx context.Context, name string, data bool) error {
	id, err := k.resolve(ctx, name)
	if err != nil {
		return err
	}
	path := "/" + id
	if data {
		path += "?data=1"
	}
	return k.ask(ctx, http.MethodDelete, path, nil, nil)
}

// log shows what an app wrote.
func (k *client) log(ctx context.Context, name string, follow bool) error {
	id, err := k.resolve(ctx, name)
	if err != nil {
		return err
	}
	ep, err := k.Endpoint(ctx)
	if err != nil {
		return err
	}
	q := url.Values{"app": {id}}
	if follow {
		q.Set("follow", "1")
	}
	conn, err := k.Open(ctx, ep.ID, external.Name+"/log", q)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer conn.Close()
	return printLines(k.Stdout(), conn)
}

// printLines writes text of a program line by line, so that it cannot command the terminal.
func printLines(w io.Writer, from io.Reader) error {
	lines := bufio.NewReaderSize(from, 64<<10)
	for {
		line, err := lines.ReadSlice('\n')
		if len(line) > 0 {
			fmt.Fprintln(w, apps.Printable(strings.TrimRight(strings.ReplaceAll(string(line), "\t", "    "), "\r\n")))
		}
		if err != nil && err != bufio.ErrBufferFull {
			return nil // the end of the flow is that of the log
		}
	}
}
