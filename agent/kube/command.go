package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"

	"github.com/urfave/cli/v2"

	"ztm/agent/api"
	"ztm/agent/beside"
	"ztm/agent/kube/asked"
	"ztm/agent/kube/cluster"
	"ztm/agent/kube/expose"
	"ztm/agent/kube/imports"
	"ztm/apps"
	"ztm/tunnel/pause"
)

// owner is whose the outbounds are.
const owner = "kubernetes"

// Companion is `ztm run agent --kubernetes`. getenv is os.Getenv.
func Companion(getenv func(string) string) beside.Companion {
	return beside.Companion{
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "kubernetes", Usage: "watch the cluster that this pod is in: Services with the annotation ztm.dev/expose become outbounds"},
			&cli.BoolFlag{Name: "kube-access", Usage: "be the way to the cluster's API server: members of the mesh act there as ztm:USER"},
			&cli.StringFlag{Name: "kube-cluster", Usage: "with --kube-access: the cluster is called `NAME` in the mesh; endpoints that say the same share what is asked of it"},
			&cli.StringFlag{Name: "kube-groups", Usage: "with --kube-access: who is in one of the groups `LIST` of the mesh is in ztm:GROUP there"},
			&cli.StringFlag{Name: "kube-server", Usage: "watch the API server at `URL` instead of that of this pod"},
			&cli.StringFlag{Name: "kube-token", Usage: "show the API server the token in `FILE`"},
			&cli.StringFlag{Name: "kube-ca", Usage: "trust the API server's certificate if one in `FILE` signed it"},
			&cli.StringFlag{Name: "kube-namespaces", Usage: "watch the namespaces `LIST` alone, with commas between them"},
			&cli.StringFlag{Name: "kube-prefix", Value: "ztm.dev", Usage: "read annotations that begin with `PREFIX`/"},
			&cli.StringFlag{Name: "kube-users", Usage: "let every Service name the users `LIST`, or * for all, in its annotation users"},
			&cli.StringFlag{Name: "kube-exclude", Usage: "never connect to the addresses `LIST`, such as 10.0.0.0/8"},
			&cli.BoolFlag{Name: "kube-foreign-slices", Usage: "trust EndpointSlices that the cluster's controller has not made"},
			&cli.BoolFlag{Name: "kube-conditions", Usage: "say in the status of each Service what became of it"},
			&cli.BoolFlag{Name: "kube-exports", Usage: "expose what a ServiceExport of the multi-cluster API names, too"},
			&cli.StringFlag{Name: "kube-import-ports", Usage: "let Services import tunnels, for which this pod listens at the ports `FIRST-LAST`"},
			&cli.StringFlag{Name: "kube-import", Usage: "let every namespace import the tunnels `LIST`; a star at the end of a name stands for any rest"},
			&cli.StringFlag{Name: "kube-replicas", Usage: "take away what other pods of `NAMESPACE/SERVICE` leave behind"},
			&cli.StringFlag{Name: "health", Usage: "serve /healthz and /readyz for the kubelet at `ADDRESS`, such as :8081"},
		},
		Start: func(x *cli.Context, mesh string, log *slog.Logger, a beside.Agent) (beside.Work, error) {
			if !x.Bool("kubernetes") && !x.Bool("kube-access") {
				return nil, unused(x)
			}
			if mesh == "" {
				return nil, apps.Usagef("an agent in a cluster wants to know the mesh: give --join MESH, --join-as NAME and --permit FILE")
			}
			return start(x, getenv, mesh, log, a)
		},
	}
}

// unused is wrong usage if an option means nothing without --kubernetes.
func unused(x *cli.Context) error {
	for _, name := range []string{"kube-cluster", "kube-groups", "kube-server", "kube-token", "kube-ca", "kube-namespaces", "kube-users", "kube-exclude", "kube-foreign-slices", "kube-conditions", "kube-exports", "kube-import-ports", "kube-import", "kube-replicas", "health"} {
		if x.IsSet(name) {
			return apps.Usagef("--%s goes with --kubernetes", name)
		}
	}
	return nil
}

func start(x *cli.Context, getenv func(string) string, mesh string, log *slog.Logger, a beside.Agent) (beside.Work, error) {
	at, err := serverOf(x, getenv)
	if err != nil {
		return nil, err
	}
	log = log.With("mesh", mesh, "app", owner)
	m := member{mesh, a}
	var works []beside.Work
	ready := m.connected
	if x.Bool("kube-access") {
		in := map[string]any{"url": at.Server, "tokenFile": cmp.Or(x.String("kube-token"), cluster.PodToken), "ca": at.CA, "cluster": x.String("kube-cluster"), "groups": asked.Words(x.String("kube-groups"))}
		works = append(works, m.gives(in, log))
	}
	if x.Bool("kubernetes") {
		k, err := watcher(x, getenv, at, m, log)
		if err != nil {
			return nil, err
		}
		works = append(works, k.Run)
		ready = func() error { return cmp.Or(m.connected(), k.Ready()) }
	}
	if x.String("health") != "" {
		works = append(works, Health{x.String("health"), ready, log}.Run)
	}
	return beside.With(works[0], works[1:]), nil
}

// watcher makes the controller that the command line asks for.
func watcher(x *cli.Context, getenv func(string) string, at cluster.Config, m member, log *slog.Logger) (*Controller, error) {
	client, err := cluster.New(at)
	if err != nil {
		return nil, err
	}
	rules, err := rulesOf(x, client, getenv)
	if err != nil {
		return nil, err
	}
	in, err := importing(x, getenv, m)
	if err != nil {
		return nil, err
	}
	return New(Config{Client: client, Namespaces: asked.Words(x.String("kube-namespaces")), Exports: x.Bool("kube-exports"), Conditions: x.Bool("kube-conditions"), Rules: rules, Importing: in, Derive: m.derive, Log: log}), nil
}

// serverOf returns the API server of the command line, or else that of the pod.
func serverOf(x *cli.Context, getenv func(string) string) (at cluster.Config, err error) {
	if server := x.String("kube-server"); server != "" {
		if x.String("kube-token") == "" {
			return at, apps.Usagef("--kube-server goes with --kube-token FILE")
		}
		at = cluster.Config{Server: server, Token: cluster.TokenFile(x.String("kube-token"))}
		if ca := x.String("kube-ca"); ca != "" {
			at.CA, err = os.ReadFile(ca)
		}
		return at, err
	}
	if at, err = cluster.InPod(getenv); err != nil {
		return at, &apps.HintError{Err: err, Hint: "run it in a pod, or name the API server with --kube-server and --kube-token"}
	}
	return at, nil
}

// rulesOf returns the rules of the command line. The API server and this pod are never targets.
func rulesOf(x *cli.Context, client *cluster.Client, getenv func(string) string) (expose.Rules, error) {
	r := expose.Rules{Prefix: x.String("kube-prefix"), Users: asked.Words(x.String("kube-users")), ForeignSlices: x.Bool("kube-foreign-slices")}
	never := append(asked.Words(x.String("kube-exclude")), client.Base().Hostname())
	never = append(never, asked.Words(getenv("POD_IPS"))...)
	for _, text := range never {
		prefix, err := netip.ParsePrefix(text)
		if a, aerr := netip.ParseAddr(text); aerr == nil {
			prefix, err = a.Prefix(a.BitLen())
		}
		if err != nil && text != client.Base().Hostname() {
			return r, apps.Usagef("--kube-exclude %q: want an address, or a prefix such as 10.0.0.0/8", text)
		}
		r.Exclude = append(r.Exclude, prefix)
	}
	return r, nil
}

// member is the agent as an endpoint of one mesh.
type member struct {
	mesh  string
	agent beside.Agent
}

func (m member) self(ctx context.Context) (out api.Mesh, err error) {
	err = m.agent.Call(ctx, http.MethodGet, api.MeshPath(m.mesh), nil, &out)
	return out, err
}

// connected returns nil if the agent is connected to the mesh.
func (m member) connected() error {
	if err := m.agent.Unjoined(); err != nil {
		return fmt.Errorf("cannot join mesh %s: %w", m.mesh, err)
	}
	self, err := m.self(context.Background())
	switch {
	case err != nil:
		return err
	case self.Status == api.Connected:
		return nil
	case self.Error != "":
		return errors.New(self.Error)
	}
	return fmt.Errorf("mesh %s: %s", m.mesh, self.Status)
}

// gives is the work that makes this endpoint the way to the API server that in says: the app keeps
// that in memory, and is told again.
func (m member) gives(in map[string]any, log *slog.Logger) beside.Work {
	return func(ctx context.Context) error {
		for wait := retry; ; {
			self, err := m.self(ctx)
			if err == nil {
				err = m.agent.Call(ctx, http.MethodPut, api.AppPath(m.mesh, self.Agent.ID, "kube/server"), in, nil)
			}
			if err != nil {
				log.Debug("the agent is not the way to the cluster yet", "err", err)
			} else {
				wait = again
			}
			if !pause.For(ctx, wait) {
				return nil
			}
		}
	}
}

// derive hands a set to the tunnel app.
func (m member) derive(ctx context.Context, set Set) (out Refusals, err error) {
	self, err := m.self(ctx)
	if err != nil {
		return out, err
	}
	err = m.agent.Call(ctx, http.MethodPut, api.AppPath(m.mesh, self.Agent.ID, "tunnel/derived/"+owner), set, &out)
	return out, err
}

// resolve returns the ID of the endpoint that has a name. The agent remembers whose it was.
func (m member) resolve(ctx context.Context, name string) (string, error) {
	var out api.Resolved
	err := m.agent.Call(ctx, http.MethodPost, api.NamePath(m.mesh, name), nil, &out)
	return string(out.ID), err
}

// offered reports whether an endpoint that is online offers a tunnel. One that offers all names may.
func (m member) offered(ctx context.Context, tunnel, exit string) (bool, error) {
	var list []apps.Endpoint
	if err := m.agent.Call(ctx, http.MethodGet, api.EndpointsPath(m.mesh, apps.Filter{Name: exit, Offer: "tunnel/" + tunnel}), nil, &list); err != nil {
		return false, err
	}
	for _, ep := range list {
		switch {
		case ep.Unknown:
			return false, errUnknown
		case ep.Online:
			return true, nil
		}
	}
	return false, m.connected()
}

// importing returns what the command line and the pod say about imports.
func importing(x *cli.Context, getenv func(string) string, m member) (i Importing, err error) {
	i.Resolve, i.Offered, i.Replicas = m.resolve, m.offered, x.String("kube-replicas")
	if x.String("kube-import-ports") == "" {
		return i, nil
	}
	if i.First, i.Last, err = Ports(x.String("kube-import-ports")); err != nil {
		return i, apps.Usagef("--kube-import-ports %q: %w", x.String("kube-import-ports"), err)
	}
	pod := imports.Pod{Name: getenv("POD_NAME"), Namespace: getenv("POD_NAMESPACE"), UID: getenv("POD_UID"), Node: getenv("NODE_NAME")}
	for _, text := range asked.Words(getenv("POD_IPS")) {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return i, fmt.Errorf("POD_IPS: %w", err)
		}
		pod.Addresses = append(pod.Addresses, a)
	}
	if pod.Name == "" || pod.Namespace == "" || pod.UID == "" || len(pod.Addresses) == 0 {
		return i, &apps.HintError{Err: errors.New("imports need to know the pod: POD_NAME, POD_NAMESPACE, POD_UID and POD_IPS are to be set"),
			Hint: "see the manifest in docs/kubernetes.md"}
	}
	i.Rules = imports.Rules{Prefix: x.String("kube-prefix"), Allow: asked.Words(x.String("kube-import")), Pod: pod}
	return i, nil
}
