package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"ztm/agent/api"
	"ztm/agent/policy/file"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// source is the policy in force, and where it is.
func (c commands) source(ctx context.Context) (now api.PolicySource, path string, err error) {
	if path, err = c.At(ctx, "policy", "source"); err != nil {
		return now, "", err
	}
	err = c.Do(ctx, http.MethodGet, path, nil, &now)
	if answer.CodeOf(err) == answer.Denied {
		err = &apps.HintError{Err: err, Hint: "do it at an endpoint of root that holds the key, or from another of root's: ztm ep NAME policy ...; where there is none, join one with the root permit"}
	}
	return now, path, err
}

// application says how a file is applied.
type application struct {
	dry     bool // not at all: the difference is shown
	observe bool // the grants decide nothing
}

// apply makes the policy what a file says, and shows what that changes.
func (c commands) apply(ctx context.Context, name string, how application) error {
	in, path, err := c.source(ctx)
	if err != nil {
		return err
	}
	at := unixtime.Of(time.Now())
	f, next, err := c.checked(name, in.Source, at)
	if err != nil {
		return err
	}
	if how.observe {
		next.Mode = policy.Observe
	}
	if err := c.pinned(ctx, next); err != nil {
		return err
	}
	c.strangers(ctx, in.Source, next)
	if err := c.compare(in.Source, next, at); err != nil {
		return err
	}
	if err := f.CheckBase(in.Version); errors.Is(err, file.ErrBase) {
		return &apps.HintError{Err: err, Hint: fmt.Sprintf("above is what the file would change now: merge it with what ztm policy export prints, and write base: %d", in.Version)}
	}
	if in.Source.Mode != policy.Enforce && next.Mode == policy.Enforce {
		c.Warn("grants are enforced with this policy: a rule of an owner lets nobody in any longer whom no grant lets")
	}
	if how.dry {
		return nil
	}
	in.Source = next
	if err := c.Do(ctx, http.MethodPut, path, in, &in); err != nil {
		return err
	}
	c.Note("version %d of the policy is in force", in.Version)
	return c.confirmed(ctx)
}

// remove takes all grants away.
func (c commands) remove(ctx context.Context) error {
	in, path, err := c.source(ctx)
	if err != nil {
		return err
	}
	if len(in.Source.Grants) == 0 && in.Source.Mode == policy.GroupsOnly {
		return answer.Errorf(answer.NotFound, "the policy has no grants")
	}
	in.Source.Mode, in.Source.Grants = policy.GroupsOnly, []policy.Grant{}
	if err := c.Do(ctx, http.MethodPut, path, in, &in); err != nil {
		return err
	}
	c.Note("version %d of the policy is in force: it has no grants, and the rules of endpoints decide", in.Version)
	return c.confirmed(ctx)
}

// confirmed says which endpoints have not confirmed the version that was made last. It is in force here
// whatever comes of that.
func (c commands) confirmed(ctx context.Context) error {
	path, err := c.At(ctx, "policy", "unconfirmed")
	if err != nil {
		return err
	}
	var left []string
	if err := c.Do(ctx, http.MethodGet, path, nil, &left); err != nil {
		c.Warn("who has got it is not known: %v; later: ztm policy get", err)
		return nil
	}
	if len(left) == 0 {
		c.Note("all endpoints that are online have confirmed it")
	} else {
		c.Warn("not confirmed within 5 s, they decide by what they had: %s; they are told again each minute, see ztm policy get and the log of the endpoint", few(left))
	}
	var away []string
	all, err := c.Endpoints(ctx, apps.Filter{})
	for _, ep := range all {
		if !ep.Online && !ep.Local {
			away = append(away, ep.Name)
		}
	}
	if err == nil && len(away) > 0 {
		c.Warn("offline, they ask for it when they are back: %s", few(away))
	}
	return nil
}

// few is a list of names for a line, the first of many.
func few(names []string) string {
	if n := len(names); n > most {
		names = append(slices.Clone(names[:most]), fmt.Sprintf("and %d more", n-most))
	}
	return strings.Join(names, ", ")
}

// pinned refuses a file that has another ID for a name than the mesh: one of the two is not the device
// that is meant.
func (c commands) pinned(ctx context.Context, s *policy.Source) error {
	eps, err := c.Endpoints(ctx, apps.Filter{})
	if err != nil {
		return err
	}
	for _, ep := range eps {
		if e, named := s.Endpoints[ep.Name]; named && e.ID != ep.ID {
			return fmt.Errorf("endpoint %s has the ID %s in the mesh, and %s in the file: see which one is meant", ep.Name, ep.ID, e.ID)
		}
	}
	return nil
}

// strangers warns of users whom a file brings and who are neither in the mesh nor invited: a name that is
// misspelt means nobody.
func (c commands) strangers(ctx context.Context, old, next *policy.Source) {
	all, err := c.Users(ctx)
	if err != nil {
		return
	}
	known := old.Named()
	for _, u := range all {
		known[u.Name] = struct{}{}
	}
	var strange []string
	for _, name := range slices.Sorted(maps.Keys(next.Named())) {
		if _, ok := known[name]; !ok {
			strange = append(strange, name)
		}
	}
	if len(strange) > 0 {
		c.Warn("nobody of this name is in the mesh or invited now, check it: %s", few(strange))
	}
}

// export prints the policy in force as a file.
func (c commands) export(ctx context.Context) error {
	in, _, err := c.source(ctx)
	if err != nil {
		return err
	}
	b, err := file.Write(in.Source, in.Version)
	if err != nil {
		return err
	}
	_, err = c.Stdout().Write(b)
	return err
}
