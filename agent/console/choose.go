package console

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// Meshes lists the meshes that the agent has joined.
func (c *Console) Meshes(ctx context.Context) ([]api.Mesh, error) {
	var out []api.Mesh
	err := c.Do(ctx, http.MethodGet, api.MeshesPath, nil, &out)
	return out, err
}

// Mesh returns the mesh that the command is about: the one that a prefix names, else the only one
// that is joined, else the default one.
func (c *Console) Mesh(ctx context.Context) (api.Mesh, error) {
	c.mu.Lock()
	found := c.found
	c.mu.Unlock()
	if found != nil {
		return *found, nil
	}
	meshes, err := c.Meshes(ctx)
	if err != nil {
		return api.Mesh{}, err
	}
	m, err := pick(meshes, c.mesh, c.fallback)
	if err != nil {
		return api.Mesh{}, err
	}
	c.mu.Lock()
	c.found = &m
	c.mu.Unlock()
	return m, nil
}

// MeshNamed returns the mesh of that name, or the one that [Console.Mesh] chooses where name is
// empty.
func (c *Console) MeshNamed(ctx context.Context, name string) (api.Mesh, error) {
	if name == "" {
		return c.Mesh(ctx)
	}
	meshes, err := c.Meshes(ctx)
	if err != nil {
		return api.Mesh{}, err
	}
	return pick(meshes, name, "")
}

func pick(meshes []api.Mesh, name, fallback string) (api.Mesh, error) {
	if len(meshes) == 0 {
		return api.Mesh{}, &apps.HintError{
			Err:  fmt.Errorf("this agent has joined no mesh yet"),
			Hint: "join one with: ztm join MESH --as NAME --permit FILE",
		}
	}
	if name == "" && len(meshes) == 1 {
		return meshes[0], nil
	}
	if name == "" {
		name = fallback
	}
	var names []string
	for _, m := range meshes {
		if m.Name == name {
			return m, nil
		}
		names = append(names, m.Name)
	}
	joined := strings.Join(names, ", ")
	if name == "" {
		return api.Mesh{}, &apps.HintError{
			Err:  fmt.Errorf("no mesh specified"),
			Hint: "say which with: ztm mesh NAME ..., or: ztm config --mesh NAME; joined are: " + joined,
		}
	}
	return api.Mesh{}, &apps.HintError{Err: fmt.Errorf("mesh '%s' not found", name), Hint: "joined are: " + joined}
}

// Endpoint returns the endpoint that the `ep` prefix chose, or the agent's own.
func (c *Console) Endpoint(ctx context.Context) (apps.Endpoint, error) {
	c.mu.Lock()
	chosen := c.chosen
	c.mu.Unlock()
	if chosen != nil {
		return *chosen, nil
	}
	ep, err := c.Resolve(ctx, c.endpoint)
	if err != nil {
		return apps.Endpoint{}, err
	}
	c.mu.Lock()
	c.chosen = &ep
	c.mu.Unlock()
	return ep, nil
}

// Chosen reports whether the `ep` prefix chose the endpoint.
func (c *Console) Chosen() bool { return c.endpoint != "" }

// Prefixed reports whether a prefix chose the mesh or the endpoint.
func (c *Console) Prefixed() bool { return c.mesh != "" || c.Chosen() }

// settle finds the mesh and the endpoint that prefixes name, so that no command runs about
// something that is not there.
func (c *Console) settle(ctx context.Context) error {
	if c.mesh != "" {
		if _, err := c.Mesh(ctx); err != nil {
			return err
		}
	}
	if !c.Chosen() {
		return nil
	}
	_, err := c.Endpoint(ctx)
	return err
}

// View returns the path of what an endpoint shows of the mesh, "hubs" or "users": the one that the
// `ep` prefix chose, or else the agent's own.
func (c *Console) View(ctx context.Context, what string) (string, error) {
	m, err := c.Mesh(ctx)
	if err != nil || !c.Chosen() {
		return api.MeshPath(m.Name) + "/" + what, err
	}
	ep, err := c.Endpoint(ctx)
	if ep.Local {
		return api.MeshPath(m.Name) + "/" + what, err
	}
	return api.EndpointPath(m.Name, ep.ID, what), err
}

// At returns the path of what an endpoint keeps: the one that [Console.Endpoint] returns.
func (c *Console) At(ctx context.Context, below ...string) (string, error) {
	ep, err := c.Endpoint(ctx)
	if err != nil {
		return "", err
	}
	m, err := c.Mesh(ctx)
	return api.EndpointPath(m.Name, ep.ID, below...), err
}

// EndpointNamed returns the endpoint of that name as [Console.Resolve] does, or the chosen one
// where name is empty.
func (c *Console) EndpointNamed(ctx context.Context, name string) (apps.Endpoint, error) {
	if name == "" {
		return c.Endpoint(ctx)
	}
	return c.Resolve(ctx, name)
}

// Resolve finds an endpoint by exact ID or else by unique exact name; "" and "." mean the agent's
// own.
func (c *Console) Resolve(ctx context.Context, name string) (apps.Endpoint, error) {
	m, err := c.Mesh(ctx)
	if err != nil {
		return apps.Endpoint{}, err
	}
	if name == "" || name == "." || name == string(m.Agent.ID) {
		return own(m), nil
	}
	if id, err := identity.ParseID(name); err == nil {
		var ep apps.Endpoint
		err := c.Do(ctx, http.MethodGet, api.EndpointPath(m.Name, id), nil, &ep)
		if answer.CodeOf(err) != answer.NotFound {
			return ep, err
		}
	}
	eps, err := c.Endpoints(ctx, apps.Filter{Name: name})
	if err != nil {
		return apps.Endpoint{}, err
	}
	switch len(eps) {
	case 0:
		return apps.Endpoint{}, notFound(m, name)
	case 1:
		return eps[0], nil
	}
	var ids []string
	for _, ep := range eps {
		ids = append(ids, string(ep.ID))
	}
	return apps.Endpoint{}, &apps.HintError{
		Err:  fmt.Errorf("ambiguous endpoint name '%s'", name),
		Hint: "give its ID instead, one of: " + strings.Join(ids, ", "),
	}
}

func notFound(m api.Mesh, name string) error {
	return &apps.HintError{
		Err:  fmt.Errorf("endpoint '%s' not found", name),
		Hint: fmt.Sprintf("see who is in the mesh with: ztm mesh %s get ep", m.Name),
	}
}

// own is the agent as an endpoint. What the agent knows about itself needs no hub.
func own(m api.Mesh) apps.Endpoint {
	return apps.Endpoint{
		ID: m.Agent.ID, Name: m.Agent.Name, User: m.Agent.User, Labels: m.Agent.Labels, Signer: m.Signer,
		Online: m.Status == api.Connected, Local: true,
	}
}

// Endpoints lists the endpoints of the chosen mesh.
func (c *Console) Endpoints(ctx context.Context, f apps.Filter) ([]apps.Endpoint, error) {
	m, err := c.Mesh(ctx)
	if err != nil {
		return nil, err
	}
	var out []apps.Endpoint
	err = c.Do(ctx, http.MethodGet, api.EndpointsPath(m.Name, f), nil, &out)
	return out, err
}
