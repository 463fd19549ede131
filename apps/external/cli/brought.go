package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"

	"ztm/apps"
	"ztm/apps/external/contract"
	"ztm/apps/external/manifest"
	"ztm/tunnel/answer"
	"ztm/tunnel/splice"
)

// A command that an app brings:
//
//	`ztm NAME ARG...` -> which app is that here -> a flow to it -> its answer, or frames: see contract.Command

// brought are the commands that installed apps bring.
type brought struct{ *client }

var _ apps.Brought = brought{}

// List implements [apps.Brought].
func (b brought) List(ctx context.Context) (all []apps.BroughtCommand) {
	list, err := b.installed(ctx)
	if err != nil {
		return nil
	}
	for _, a := range list {
		m := &a.Manifest
		known := slices.ContainsFunc(all, func(c apps.BroughtCommand) bool { return c.Name == m.Name })
		if m.Command != "" && !a.Disabled && !known {
			all = append(all, apps.BroughtCommand{Name: m.Name, Usage: m.Command + " (an app of " + m.Provider + ")"})
		}
	}
	return all
}

// Run implements [apps.Brought].
func (b brought) Run(ctx context.Context, name string, args []string) (known bool, err error) {
	id, err := b.named(ctx, name)
	if id == "" {
		return err != nil, err
	}
	target, err := contract.CommandTarget(args)
	if err != nil {
		return true, err
	}
	r := (&http.Request{Method: http.MethodGet, URL: target, Host: "ztm", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {contract.Command}}}).WithContext(ctx)
	return true, b.command(r, id)
}

// named returns which app a word means, "" for none. Its error is that of a word that means one, and
// cannot be run.
func (b brought) named(ctx context.Context, name string) (id string, err error) {
	if strings.Contains(name, "/") { // also at an endpoint of somebody else, who lists nothing
		if manifest.CheckID(name) != nil {
			return "", nil
		}
		return name, nil
	}
	list, err := b.installed(ctx)
	if err != nil {
		return "", nil // without an answer it is no command
	}
	var found, silent []string
	for _, a := range list {
		switch id := a.Manifest.ID(); {
		case a.Manifest.Name != name:
		case a.Manifest.Command == "":
			silent = append(silent, id)
		case !slices.Contains(found, id): // it may be installed, and tried out
			found = append(found, id)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return "", apps.Usagef("several apps bring %q; name one: ztm %s", name, strings.Join(found, ", or: ztm "))
	case len(silent) > 0:
		return "", &apps.HintError{Err: fmt.Errorf("the app %s brings no command", silent[0]), Hint: "to send it a request: ztm app call " + name}
	}
	return "", nil
}

// command runs a command of an app.
func (b brought) command(r *http.Request, id string) error {
	open, err := b.opens(r.Context(), id)
	if err != nil {
		return err
	}
	conn, err := open(r.Context())
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(r.Context(), func() { conn.Close() })()
	go r.Write(conn) // ends with the flow
	in, head := contract.Limited(conn)
	resp, err := contract.Answer(in, head, r)
	switch {
	case r.Context().Err() != nil:
		return r.Context().Err()
	case err != nil:
		return fmt.Errorf("the app gave no answer: %w", err)
	}
	defer resp.Body.Close()
	stdout, stderr := watched(b.Stdout()), watched(b.Stderr())
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return page(stdout, stderr, resp)
	}
	go input(conn, b.Stdin()) // ends with the flow, or with the program, which waits for nobody who types
	status, err := contract.CopyFrames(stdout, stderr, in)
	switch {
	case r.Context().Err() != nil: // interrupted, which is no fault of the app
		return r.Context().Err()
	case err == nil && status != 0:
		return &apps.ExitError{Status: status}
	}
	return err
}

// input passes standard input on, and its end.
func input(conn net.Conn, stdin io.Reader) {
	if _, err := io.Copy(conn, stdin); err != nil {
		splice.Abort(conn)
		return
	}
	splice.CloseWrite(conn)
}

// maxError is how much is shown of an answer that is an error, in bytes.
const maxError = 64 << 10

// page is the answer of an app that reads no input, or of the agent that did not reach it.
func page(stdout, stderr io.Writer, resp *http.Response) error {
	if resp.StatusCode < http.StatusBadRequest {
		_, err := io.Copy(stdout, resp.Body)
		return err
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxError))
	if err != nil {
		return err
	}
	if e := answer.Parse(resp.StatusCode, text); json.Valid(text) {
		return e
	}
	if len(text) == 0 {
		return fmt.Errorf("the app answers %s", apps.Printable(resp.Status))
	}
	if _, err := stderr.Write(text); err != nil {
		return err
	}
	return &apps.ExitError{Status: 1}
}
