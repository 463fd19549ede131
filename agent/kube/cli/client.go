package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"ztm/agent/kube/access"
	"ztm/apps"
	"ztm/tunnel/shellwords"
)

// offered is what an endpoint offers that leads to a cluster; a cluster's name may follow.
const offered = access.Name + "/" + access.API

// client asks the app for the commands.
type client struct{ apps.Console }

func (c *client) ls(ctx context.Context, name string) error {
	if name != "" {
		return c.services(ctx, name)
	}
	list, err := c.Endpoints(ctx, apps.Filter{Offer: offered})
	if err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"CLUSTER", "ENDPOINT", "USER", "STATUS"}}
	for _, ep := range list {
		t.Add(cmp.Or(apps.Printable(clusterOf(ep)), "-"), apps.Printable(ep.Name), ep.User, map[bool]string{true: "Online", false: "Offline"}[ep.Online])
	}
	return c.Print(list, t)
}

// clusterOf returns the name of the cluster to which an endpoint leads, "" if it has none.
func clusterOf(ep apps.Endpoint) string {
	for _, o := range ep.Offers {
		if name, ok := strings.CutPrefix(o, offered+"/"); ok {
			return name
		}
	}
	return ""
}

// outbound is an outbound of the tunnel app, as its API has it.
type outbound struct {
	Protocol string   `json:"protocol"`
	Name     string   `json:"name"`
	Targets  []string `json:"targets"`
	Users    []string `json:"users,omitempty"`
}

// services lists what an endpoint exposes.
func (c *client) services(ctx context.Context, name string) error {
	ep, err := c.Resolve(ctx, name)
	if err != nil {
		return err
	}
	var list []outbound
	if err := c.CallAt(ctx, ep.ID, http.MethodGet, "tunnel/outbound", nil, &list); err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"TUNNEL", "TARGETS", "USERS"}}
	for _, o := range list {
		t.Add(apps.Printable(o.Protocol+"/"+o.Name), strconv.Itoa(len(o.Targets)), cmp.Or(apps.Printable(strings.Join(o.Users, ", ")), "-"))
	}
	return c.Print(list, t)
}

// login makes a way to a cluster and writes a kubeconfig for it. user is whose endpoints lead there, ""
// whoever has some; file is where to write, "" the usual place.
func (c *client) login(ctx context.Context, name, user, file string) error {
	to, err := c.way(ctx, name, user)
	if err != nil {
		return err
	}
	if err := c.Call(ctx, http.MethodPost, access.Name+"/logins/"+url.PathEscape(to.Name), to, &to); err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	config, err := kubeconfig(to, append([]string{exe}, before(os.Args)...))
	if err != nil {
		return err
	}
	if file == "-" {
		_, err := c.Stdout().Write(config)
		return err
	}
	path, err := write(file, to.Name, config)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Stdout(), "wrote %s\nkubectl --kubeconfig %s get pods\n", path, shellwords.Here(path))
	return nil
}

// way finds what has a name: a cluster, or an endpoint that leads to one. A name that endpoints of
// several users have is refused: which of them is asked decides what is typed into. So is one that
// was another user's when it was used first.
func (c *client) way(ctx context.Context, name, user string) (to access.Login, err error) {
	clusters, err := c.Endpoints(ctx, apps.Filter{User: user, Offer: offered + "/" + name})
	if err != nil {
		return to, err
	}
	named, err := c.Endpoints(ctx, apps.Filter{User: user, Name: name, Offer: offered})
	if err != nil {
		return to, err
	}
	users := map[string]bool{}
	for _, ep := range append(named, clusters...) {
		users[ep.User] = true
	}
	if len(users) > 1 {
		return to, &apps.HintError{Err: fmt.Errorf("endpoints of several users lead to a cluster %s: %s", apps.Printable(name), strings.Join(slices.Sorted(maps.Keys(users)), ", ")),
			Hint: "choose whose are meant with --user USER"}
	}
	if len(clusters) > 0 {
		owner, err := c.TrustedUser(ctx, name, offered+"/"+name, user)
		return access.Login{Name: name, Cluster: true, User: owner}, err
	}
	ep, err := c.Trusted(ctx, name)
	if err != nil {
		return to, err
	}
	if !slices.Contains(ep.Offers, offered) || user != "" && ep.User != user {
		return to, &apps.HintError{Err: fmt.Errorf("endpoint %s is no way to a cluster", apps.Printable(ep.Name)), Hint: "see: ztm kube ls"}
	}
	return access.Login{Name: ep.Name, User: ep.User}, nil
}

// credentialAPI is how kubectl and its plugins speak: what kubectl 1.11 knows, and each since.
const credentialAPI = "client.authentication.k8s.io/v1beta1"

// before returns the options and prefixes that stand before `kube login` in a command line, without
// the program's name: the token has to be asked for at the same agent, in the same mesh.
func before(args []string) []string {
	for i := len(args) - 2; i > 0; i-- {
		if args[i] == access.Name && args[i+1] == "login" {
			return args[1:i]
		}
	}
	return nil
}

// kubeconfig makes a kubeconfig. It is JSON, which is YAML. command is how ztm is called.
func kubeconfig(l access.Login, command []string) ([]byte, error) {
	name := "ztm-" + l.Name
	exec := map[string]any{
		"apiVersion": credentialAPI, "command": command[0], "args": append(slices.Clone(command[1:]), access.Name, "token", l.Name),
		"interactiveMode": "Never",
	}
	named := func(key string, v any) []any { return []any{map[string]any{"name": name, key: v}} }
	b, err := json.MarshalIndent(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": name,
		"clusters": named("cluster", map[string]any{"server": "https://" + l.Listen, "certificate-authority-data": base64.StdEncoding.EncodeToString([]byte(l.Certificate))}),
		"users":    named("user", map[string]any{"exec": exec}),
		"contexts": named("context", map[string]any{"cluster": name, "user": name}),
	}, "", "  ")
	return append(b, '\n'), err
}

// write writes a kubeconfig. A file that was named must be new; the usual one is ours.
func write(file, ep string, config []byte) (path string, err error) {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if file == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		if err := os.MkdirAll(filepath.Join(home, ".kube"), 0o700); err != nil {
			return "", err
		}
		file, flags = filepath.Join(home, ".kube", "ztm-"+ep+".json"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC
	}
	f, err := os.OpenFile(file, flags, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return "", &apps.HintError{Err: fmt.Errorf("%s is there already", file), Hint: "name a new file, or - for standard output"}
	} else if err != nil {
		return "", err
	}
	_, err = f.Write(config)
	return file, errors.Join(err, f.Close())
}

func (c *client) logout(ctx context.Context, name string) error {
	return c.Call(ctx, http.MethodDelete, access.Name+"/logins/"+url.PathEscape(name), nil, nil)
}

// token prints an ExecCredential.
func (c *client) token(ctx context.Context, name string) error {
	var t access.Token
	if err := c.Call(ctx, http.MethodPost, access.Name+"/logins/"+url.PathEscape(name)+"/token", nil, &t); err != nil {
		return err
	}
	return json.NewEncoder(c.Stdout()).Encode(map[string]any{
		"apiVersion": credentialAPI, "kind": "ExecCredential",
		"status": map[string]any{"token": t.Token, "expirationTimestamp": t.Expires.UTC()},
	})
}

// rbac prints the rules for the users that the mesh has, and for some groups.
func (c *client) rbac(ctx context.Context, groups []string) error {
	list, err := c.Endpoints(ctx, apps.Filter{})
	if err != nil {
		return err
	}
	users := map[string]bool{}
	for _, ep := range list {
		users[ep.User] = true
	}
	_, err = c.Stdout().Write(rules(slices.Sorted(maps.Keys(users)), groups))
	return err
}

// rules are a ClusterRole and its binding.
func rules(users, groups []string) []byte {
	var b bytes.Buffer
	b.WriteString("apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: ztm-access\n")
	if len(users)+len(groups) == 0 {
		b.WriteString("rules: []\n")
	} else {
		b.WriteString("rules:\n")
	}
	writeRule(&b, "users", users)
	writeRule(&b, "groups", groups)
	b.WriteString("---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata:\n  name: ztm-access\n" +
		"roleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: ClusterRole\n  name: ztm-access\n" +
		"subjects:\n- kind: ServiceAccount\n  name: ztm-access\n  namespace: ztm\n")
	return b.Bytes()
}

// writeRule writes the right to be some users, or in some groups. A rule without names would be the
// right to be anybody, so there is none.
func writeRule(b *bytes.Buffer, resource string, names []string) {
	if len(names) == 0 {
		return
	}
	b.WriteString("- apiGroups: [\"\"]\n  resources: [" + resource + "]\n  verbs: [impersonate]\n  resourceNames:\n")
	for _, n := range names {
		b.WriteString("  - " + strconv.QuoteToASCII("ztm:"+n) + "\n")
	}
}
