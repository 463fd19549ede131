package console

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// Trusted finds an endpoint as [Console.Resolve] does; "" means the one that [Console.Endpoint]
// returns. The agent remembers whose endpoint a name was at its first use. An ID needs no memory:
// it is the device's own.
func (c *Console) Trusted(ctx context.Context, name string) (apps.Endpoint, error) {
	if name == "" {
		name = c.endpoint
	}
	m, err := c.Mesh(ctx)
	if err != nil {
		return apps.Endpoint{}, err
	}
	if _, err := identity.ParseID(name); err == nil || name == "" || name == "." || name == m.Agent.Name {
		return c.Resolve(ctx, name)
	}
	if err := identity.CheckName(name); err != nil {
		return apps.Endpoint{}, &apps.UsageError{Err: fmt.Errorf("endpoint: %w", err)}
	}
	var found api.Resolved
	err = c.Do(ctx, http.MethodPost, api.NamePath(m.Name, name), nil, &found)
	switch answer.CodeOf(err) {
	case "":
	case answer.NotFound:
		return apps.Endpoint{}, notFound(m, name)
	case answer.Conflict:
		if _, err := c.Resolve(ctx, name); err != nil { // several have the name
			return apps.Endpoint{}, err
		}
		return apps.Endpoint{}, &apps.HintError{Err: err, Hint: forgetting(m.Name, name) + "; otherwise name the endpoint by its ID"}
	default:
		return apps.Endpoint{}, err
	}
	if found.Was != nil {
		c.Warn("%s is another device of user %s than it was: %s, before %s", name, found.User, found.ID, found.Was.ID)
	}
	return found.Endpoint, nil
}

// TrustedUser returns whose endpoints offer something under a name. The agent remembers the user as
// for [Console.Trusted], in the same place.
func (c *Console) TrustedUser(ctx context.Context, name, offer, user string) (string, error) {
	m, err := c.Mesh(ctx)
	if err != nil {
		return "", err
	}
	var found api.Resolved
	err = c.Do(ctx, http.MethodPost, api.OfferNamePath(m.Name, name, offer, user), nil, &found)
	if answer.CodeOf(err) == answer.Conflict {
		err = &apps.HintError{Err: err, Hint: forgetting(m.Name, name)}
	}
	return found.User, err
}

func forgetting(mesh, name string) string {
	return fmt.Sprintf("if its owner says that this is right: ztm mesh %s forget %s", mesh, name)
}

// CheckUsers checks whom a rule is for, see [apps.CheckWho], and warns of users that nobody in
// the mesh is. That is not asked where the hub cannot be reached.
func (c *Console) CheckUsers(ctx context.Context, names []string) error {
	names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == "" })
	if err := apps.CheckWho(names); err != nil {
		return &apps.UsageError{Err: fmt.Errorf("user: %w", err)}
	}
	c.checkGroups(ctx, names)
	names = slices.DeleteFunc(names, func(n string) bool { return !apps.IsUser(n) })
	if len(names) == 0 {
		return nil
	}
	users, err := c.Users(ctx)
	if err != nil {
		return nil
	}
	for _, name := range names {
		if !slices.ContainsFunc(users, func(u api.User) bool { return u.Name == name }) {
			c.Warn("no endpoint of user %s is in the mesh now: check the name", name)
		}
	}
	return nil
}

// checkGroups warns of groups and labels that the policy has not: a rule for them means nobody.
func (c *Console) checkGroups(ctx context.Context, terms []string) {
	terms = slices.DeleteFunc(slices.Clone(terms), func(t string) bool { return apps.IsUser(t) || t == "*" || t == apps.ByPolicy })
	if len(terms) == 0 {
		return
	}
	m, err := c.Mesh(ctx)
	if err != nil {
		return
	}
	ep, err := c.Endpoint(ctx)
	if err != nil {
		return
	}
	var unknown []string
	if c.Do(ctx, http.MethodGet, api.PolicyPath(m.Name, ep.ID, "unknown")+"?"+url.Values{"term": terms}.Encode(), nil, &unknown) != nil {
		return
	}
	for _, t := range unknown {
		c.Warn("the policy of the mesh has no %s now, as far as endpoint %s knows: the rule means nobody by it until it has", t, ep.Name)
	}
}

// Users lists the users of the mesh, as far as this endpoint knows.
func (c *Console) Users(ctx context.Context) ([]api.User, error) {
	m, err := c.Mesh(ctx)
	if err != nil {
		return nil, err
	}
	var users []api.User
	err = c.Do(ctx, http.MethodGet, api.UsersPath(m.Name), nil, &users)
	return users, err
}
