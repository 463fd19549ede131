package terminal

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"

	"ztm/apps"
	"ztm/apps/process"
	"ztm/tunnel/answer"
)

// start is the request of a caller: the payload of the start frame.
type start struct {
	Command []apps.Bytes  `json:"command,omitempty"` // with its arguments; empty is the shell
	TTY     *process.Size `json:"tty,omitempty"`     // a terminal of this size; nil is three pipes
	Env     []apps.Bytes  `json:"env,omitempty"`     // "NAME=value": TERM, COLORTERM, LANG, LC_...
	Account apps.Bytes    `json:"account,omitempty"` // to run as; empty leaves it to the endpoint
	Keep    bool          `json:"keep,omitempty"`    // the session outlives the flow
}

const (
	maxEnv      = 32  // variables
	maxEnvValue = 256 // bytes
)

// pathShell is the path of flows that begin a program.
const pathShell = "shell"

// Serve implements [apps.App].
func (a *App) Serve(ctx context.Context, f apps.Flow) {
	switch f.Path() {
	case pathShell:
		a.open(f)
	case "attach":
		a.attach(f)
	case "sessions":
		a.sessions(f)
	case "end":
		a.end(ctx, f)
	default:
		f.Refuse(answer.Errorf(answer.NotFound, "%s has no %q", name, f.Path()))
	}
}

// open starts a program for a peer.
func (a *App) open(f apps.Flow) {
	cfg, err := a.settings.Get()
	if err != nil {
		a.host.Log.Error("terminal has no configuration", "err", err)
		f.Refuse(err)
		return
	}
	e, c := a.register.Open(f, cfg.Rules)
	if e == nil {
		return
	}
	var st start
	err = c.ReadStart(&st)
	var p process.Config
	if err == nil {
		p, err = a.plan(cfg, e, st)
	}
	if err != nil {
		e.Refuse(c, err)
		return
	}
	e.Run(p, c)
}

// plan returns what to run for a peer that was admitted.
func (a *App) plan(cfg Config, e *process.Entry, st start) (process.Config, error) {
	self := a.host.Mesh.Self()
	if st.Keep && st.TTY == nil {
		return process.Config{}, answer.Errorf(answer.BadRequest, "only a session with a terminal can be kept")
	}
	if st.TTY != nil { // a caller that does not know its size says 0
		st.TTY.Cols, st.TTY.Rows = cmp.Or(st.TTY.Cols, 80), cmp.Or(st.TTY.Rows, 24)
	}
	account, err := cfg.Account(self, e.Peer, string(st.Account))
	if err != nil {
		return process.Config{}, err
	}
	env, err := environment(apps.AllStrings(st.Env))
	if err != nil {
		return process.Config{}, err
	}
	env = account.Env(append(env, "ZTM_MESH="+a.host.Mesh.Name(), "ZTM_USER="+e.Peer.User, "ZTM_ENDPOINT="+string(e.Peer.ID))...)
	p := process.Program{Env: env, Dir: account.Home, Account: account, TTY: st.TTY, Args: apps.AllStrings(st.Command)}
	if len(st.Command) > 0 {
		if p.Path, err = account.Find(p.Args[0], env); err != nil {
			return process.Config{}, notFound(p.Args[0], self.Name, err)
		}
	} else if p.Path, p.Args, err = cfg.shell(account, env); err != nil {
		return process.Config{}, err
	}
	out := process.Config{ID: e.ID, Program: p, Keep: st.Keep, Idle: cfg.idle()}
	if cfg.Record != "" {
		// Assigned only if it is there: a nil *recording would be a recorder.
		r, err := record(string(cfg.Record), e, st, p)
		if err != nil {
			a.host.Log.Error("cannot record the terminal session", "session", e.ID, "err", err)
			return process.Config{}, answer.Errorf(answer.Denied, "%s records all terminals, and cannot record this one", self.Name)
		}
		out.Record = r
	}
	return out, nil
}

// notFound returns the reason why a command cannot be run.
func notFound(command, where string, err error) *answer.Error {
	if process.CodeOf(err) == answer.NotFound {
		return answer.Errorf(answer.NotFound, "%v: not found on %s", apps.Bytes(command), where)
	}
	return answer.Errorf(process.CodeOf(err), "%v: %v on %s", apps.Bytes(command), process.Cause(err), where)
}

// environment checks the variables that a caller asks for and returns those that describe its
// terminal and its language. Others are skipped, because a newer caller may send more than an older
// endpoint knows.
func environment(wanted []string) ([]string, error) {
	if len(wanted) > maxEnv {
		return nil, answer.Errorf(answer.BadRequest, "more than %d variables", maxEnv)
	}
	var env []string
	for _, kv := range wanted {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || len(value) > maxEnvValue || strings.ContainsFunc(kv, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return nil, answer.Errorf(answer.BadRequest, "the variable %.20q makes no sense", name)
		}
		if carried(name) {
			env = append(env, kv)
		}
	}
	return env, nil
}

// carried reports whether a variable of the caller is passed on.
func carried(name string) bool {
	switch name {
	case "TERM", "COLORTERM", "LANG", "LANGUAGE":
		return true
	}
	return strings.HasPrefix(name, "LC_")
}

// admit checks a peer that starts nothing.
func (a *App) admit(f apps.Flow) bool {
	cfg, err := a.settings.Get()
	if err == nil {
		err = cfg.Admit(a.host.Mesh.Self(), name, f.Peer(), a.host.Names)
	}
	if err != nil {
		f.Refuse(err)
	}
	return err == nil
}

// attach returns a peer to a session that it kept: the one that is named, or the only one.
func (a *App) attach(f apps.Flow) {
	if !a.admit(f) {
		return
	}
	id := f.Query().Get("id")
	if id == "" {
		var ids []string
		for _, i := range a.register.List(f.Peer()) {
			if i.Keep && i.User == f.Peer().User {
				ids = append(ids, i.ID)
			}
		}
		if len(ids) > 1 {
			f.Refuse(answer.Errorf(answer.Conflict, "several sessions are kept on %s, name one: %s", a.host.Mesh.Self().Name, strings.Join(ids, ", ")))
			return
		}
		id = strings.Join(ids, "")
	}
	s, err := a.register.Find(f.Peer(), id)
	if err == nil && !s.Kept() {
		err = answer.Errorf(answer.Conflict, "session %s was not kept: it belongs to the window it was opened in", id)
	}
	if err != nil {
		f.Refuse(err)
		return
	}
	conn, err := f.Accept()
	if err != nil {
		return
	}
	a.host.Log.Info("terminal attached", "session", id, "user", f.Peer().User, "peer", f.Peer().ID)
	s.Attach(process.Accepted(conn))
}

// sessions lists the sessions that the peer may return to or end.
func (a *App) sessions(f apps.Flow) {
	if !a.admit(f) {
		return
	}
	list := a.register.List(f.Peer())
	conn, err := f.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	json.NewEncoder(conn).Encode(list) // an error means that the peer has gone
}

// end ends a session, and accepts the flow when it has ended.
func (a *App) end(ctx context.Context, f apps.Flow) {
	if !a.admit(f) {
		return
	}
	s, err := a.register.Find(f.Peer(), f.Query().Get("id"))
	if err != nil {
		f.Refuse(err)
		return
	}
	s.End("user " + f.Peer().User + " ended it")
	select {
	case <-s.Done():
	case <-ctx.Done():
		return
	}
	if conn, err := f.Accept(); err == nil {
		conn.Close()
	}
}
