package mesh

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// joinWait says how `ztm join` waits.
type joinWait struct {
	time    time.Duration // for the redeemer of a token, and for approval
	given   bool          // by the person
	replace bool
}

// How often a join that waits is tried again: from the first to the last.
const (
	firstTry = time.Second
	lastTry  = 10 * time.Second

	// approvalWait is how long a join waits for a person if --wait is not given.
	approvalWait = 15 * time.Minute
)

// joinWhen joins a mesh, and tries again while the endpoint that redeems the token is away or has
// asked a person.
func (c commands) joinWhen(ctx context.Context, mesh string, in api.Join, wait joinWait) (m api.Mesh, err error) {
	if p, err := identity.ParsePermit(in.Permit); err == nil && p.Token != nil && p.Token.Approve() && !wait.given {
		wait.time = approvalWait
	}
	ctx, cancel := context.WithTimeout(ctx, wait.time+time.Hour) // each try has an end of its own, and the last may begin late
	defer cancel()
	deadline := time.Now().Add(wait.time)
	said := ""
	for pause := firstTry; ; pause = min(2*pause, lastTry) {
		err = c.Do(ctx, http.MethodPost, api.MeshPath(mesh), in, &m)
		// A redeemer that sleeps is not known to be away for a while: it does not answer.
		if code := answer.CodeOf(err); code != answer.Unavailable && code != answer.Timeout {
			return m, c.joinHint(ctx, err, mesh, in.Permit)
		}
		left := time.Until(deadline)
		if left <= 0 {
			if wait.time == 0 {
				err = &apps.HintError{Err: err, Hint: "to wait for it: ztm join --wait 10m ..."}
			}
			return m, err
		}
		if err.Error() != said {
			said = err.Error()
			c.Waits("waiting up to %v: %s", left.Round(time.Second), said)
		}
		timer := time.NewTimer(min(pause, left))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return m, ctx.Err()
		}
	}
}

// joinHint adds to a refusal what a person can do about it.
func (c commands) joinHint(ctx context.Context, err error, mesh string, permit []byte) error {
	switch answer.CodeOf(err) {
	case answer.Denied:
		return &apps.HintError{Err: err, Hint: "whoever has invited you can make a new permit: ztm invite USER --permit FILE"}
	case answer.Conflict:
		var in identity.ID
		if p, err := identity.ParsePermit(permit); err == nil {
			in = p.Mesh
		}
		all, _ := c.Meshes(ctx) // without them the other hint is more likely
		for _, m := range all {
			if m.Name == mesh || m.ID == in {
				return &apps.HintError{Err: err, Hint: "to leave it: ztm leave " + m.Name + "; to join another mesh beside it, choose another MESH"}
			}
		}
		return &apps.HintError{Err: err, Hint: "choose another name with --as; --replace takes the place of a device of your own"}
	}
	return err
}

// redeemer is the ID of the endpoint that is to redeem a token.
func (c commands) redeemer(ctx context.Context, name string) (string, error) {
	if name == "" || name == api.RedeemerHub {
		return name, nil
	}
	e, err := c.EndpointNamed(ctx, name)
	return string(e.ID), err
}

// noteRedeemer says who must be online when a permit is used.
func (c commands) noteRedeemer(ctx context.Context, permit []byte) {
	p, err := identity.ParsePermit(permit)
	if err != nil || p.Token == nil {
		return
	}
	name := string(p.Token.Redeemer())
	if all, err := c.tokens(ctx); err == nil {
		for _, t := range all {
			if t.ID == p.Token.ID() {
				name = redeemerName(t)
			}
		}
	}
	c.Note("it can be used until %s, while %s is online", unixtime.Text(p.Token.Expires()), name)
	if p.Token.Approve() {
		c.Note("the device then waits until somebody runs there: ztm approve NAME")
	}
}

func redeemerName(t api.Token) string {
	if t.RedeemerName != "" {
		return t.RedeemerName
	}
	return string(t.Redeemer)
}

func (c commands) tokens(ctx context.Context) ([]api.Token, error) {
	path, err := c.At(ctx, "tokens")
	if err != nil {
		return nil, err
	}
	all := []api.Token{}
	return all, c.Do(ctx, http.MethodGet, path, nil, &all)
}

func (c commands) getTokens(ctx context.Context, _ string) error {
	all, err := c.tokens(ctx)
	if err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"ID", "USER", "UNTIL", "LEFT", "KIND", "REDEEMER", "MADE BY"}}
	for _, k := range all {
		left := strconv.Itoa(k.Left) + " of " + strconv.Itoa(k.Uses)
		if k.Elsewhere {
			left = "?"
		}
		t.Add(k.ID, k.User, unixtime.Text(k.Until), left, kind(k), redeemerName(k), cmp.Or(nameOr(k.ByName, k.By), "-"))
	}
	return c.Print(all, t)
}

// kind says what is special about a token.
func kind(t api.Token) string {
	switch {
	case t.Approve:
		return "approve"
	case t.Ephemeral:
		return "ephemeral"
	}
	return "-"
}

func nameOr(name string, id identity.ID) string {
	if name != "" {
		return name
	}
	return string(id)
}

func (c commands) revokeToken(ctx context.Context, id string) error {
	path, err := c.At(ctx, "tokens", id)
	if err != nil {
		return err
	}
	err = c.Do(ctx, http.MethodDelete, path, nil, nil)
	if answer.CodeOf(err) == answer.NotFound {
		return &apps.HintError{Err: err, Hint: "see those that are open with: ztm get token"}
	}
	if err != nil {
		return err
	}
	c.Note("token %s is void; devices that joined with it stay: ztm evict ep EP", id)
	return nil
}

func (c commands) getApprovals(ctx context.Context, _ string) error {
	path, err := c.At(ctx, "approvals")
	if err != nil {
		return err
	}
	all := []api.Approval{}
	if err := c.Do(ctx, http.MethodGet, path, nil, &all); err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"NAME", "USER", "ID", "SINCE", "UNTIL", "ANSWER"}}
	for _, a := range all {
		t.Add(a.Name, a.User, string(a.ID), unixtime.Text(a.Since), unixtime.Text(a.Until), cmp.Or(a.Answer, "-"))
	}
	return c.Print(all, t)
}

func (c commands) approve(ctx context.Context, name string, deny bool) error {
	path, err := c.At(ctx, "approvals")
	if err != nil {
		return err
	}
	var out api.Approval
	err = c.Do(ctx, http.MethodPost, path, api.Approve{Name: name, Deny: deny}, &out)
	if answer.CodeOf(err) == answer.NotFound {
		return &apps.HintError{Err: err, Hint: fmt.Sprintf("see who waits with: ztm get approval; at another endpoint of root: ztm ep EP approve %s", name)}
	}
	if err != nil {
		return err
	}
	if deny {
		c.Note("%s of user %s (ID %s) is not let in", out.Name, out.User, out.ID)
	} else {
		c.Note("%s of user %s (ID %s) is let in when it asks again, in a few seconds", out.Name, out.User, out.ID)
	}
	return c.Print(out, nil)
}
