package script

import (
	"context"
	"slices"
	"strings"
	"time"

	"ztm/apps"
	"ztm/apps/process"
	"ztm/tunnel/answer"
)

// start is the request of a caller: the payload of the start frame. The script follows in source
// frames.
type start struct {
	Name    apps.Bytes   `json:"name"`              // of the file, without directories
	With    apps.Bytes   `json:"with,omitempty"`    // the interpreter; empty goes by the script and its name
	Args    []apps.Bytes `json:"args,omitempty"`    // of the script
	Size    int          `json:"size"`              // of the script, in bytes
	Limit   int64        `json:"limit,omitempty"`   // milliseconds; 0 is none
	Account apps.Bytes   `json:"account,omitempty"` // to run as; empty leaves it to the endpoint
	Lang    []apps.Bytes `json:"lang,omitempty"`    // "NAME=value": LANG, LC_...
}

// Serve implements [apps.App].
func (a *App) Serve(_ context.Context, f apps.Flow) {
	if f.Path() != "run" {
		f.Refuse(answer.Errorf(answer.NotFound, "%s has no %q", name, f.Path()))
		return
	}
	rules, err := a.settings.Get()
	if err != nil {
		a.host.Log.Error("script has no configuration", "err", err)
		f.Refuse(err)
		return
	}
	e, c := a.register.Open(f, rules)
	if e == nil {
		return
	}
	cfg, remove, err := a.prepare(rules, e, c)
	if err != nil {
		e.Refuse(c, err)
		return
	}
	defer remove()
	e.Run(cfg, c)
}

// prepare reads the request of the caller and makes a plan of it. remove is called when the script
// has ended.
func (a *App) prepare(rules process.Rules, e *process.Entry, c *process.Conn) (cfg process.Config, remove func(), err error) {
	var st start
	if err := c.ReadStart(&st); err != nil {
		return cfg, nil, err
	}
	if st.Size < 0 || st.Size > maxSource {
		return cfg, nil, answer.Errorf(answer.BadRequest, "the script has %d bytes, the limit is %d", st.Size, maxSource)
	}
	if st.Limit < 0 || st.Limit > int64(maxLimit/time.Millisecond) {
		return cfg, nil, answer.Errorf(answer.BadRequest, "a time limit of %d ms makes no sense", st.Limit)
	}
	source, err := c.ReadSource(st.Size)
	if err != nil {
		return cfg, nil, err
	}
	account, err := rules.Account(a.host.Mesh.Self(), e.Peer, string(st.Account))
	if err != nil {
		return cfg, nil, err
	}
	return a.plan(account, e, st, source)
}

// maxLimit is the longest time limit of a script.
const maxLimit = 366 * 24 * time.Hour

// plan chooses the interpreter and prepares the script for it.
func (a *App) plan(account *process.Account, e *process.Entry, st start, source []byte) (cfg process.Config, remove func(), err error) {
	self := a.host.Mesh.Self()
	env := account.Env(append(language(apps.AllStrings(st.Lang)), "ZTM_MESH="+a.host.Mesh.Name(), "ZTM_USER="+e.Peer.User,
		"ZTM_ENDPOINT="+string(e.Peer.ID), "ZTM_SCRIPT="+plain(string(st.Name)))...)
	with, err := choose(self.Name, string(st.With), string(st.Name), source, account, env)
	if err != nil {
		return cfg, nil, err
	}
	given, err := give(readable(source, with), with, account)
	if err != nil {
		a.host.Log.Error("cannot pass the script to its interpreter", "session", e.ID, "err", err)
		return cfg, nil, err
	}
	files, remove := given.files, given.remove
	if with.engine {
		far, stop, state := a.bridgeFor(e, self)
		env = append(env, bridgeEnv+"="+state)
		if far != nil {
			for len(files) < bridgeFD-3 {
				files = append(files, nil)
			}
			files = append(files, far)
			remove = func() { stop(); given.remove() }
		}
	}
	args := slices.Concat([]string{with.name}, with.args, []string{given.path}, apps.AllStrings(st.Args))
	return process.Config{
		Program: process.Program{Path: with.path, Args: args, Env: env, Dir: account.Home, Account: account, Files: files},
		Limit:   time.Duration(st.Limit) * time.Millisecond,
	}, remove, nil
}

// language returns the variables of a caller's environment that set its language.
func language(env []string) (kept []string) {
	for _, kv := range env {
		name, _, ok := strings.Cut(kv, "=")
		if ok && (name == "LANG" || strings.HasPrefix(name, "LC_")) && kv == plain(kv) && len(kept) < 32 {
			kept = append(kept, kv)
		}
	}
	return kept
}

// plain returns a text without control characters, at most 256 bytes of it. The other bytes stay as
// they are.
func plain(s string) string {
	kept := slices.DeleteFunc([]byte(s), func(c byte) bool { return c < ' ' || c == 0x7f })
	return string(kept[:min(len(kept), 256)])
}
