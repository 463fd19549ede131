//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// Addresses of pods.
const (
	agentIP  = "10.42.0.3"
	accessIP = "10.42.0.4"
	clientIP = "10.42.0.5"
	webIP    = "10.42.0.11"
	web2IP   = "10.42.0.12"
)

// mesh makes a hub, the laptop, and an agent and some pods in each cluster. All but the hub's
// administrator are of the user kube.
func (l *lab) mesh() error {
	began := time.Now()
	if _, err := l.run("net", "hub", l.ztm, "run", "hub", "--data", l.path("hub"), "--listen", hub, "--names", hub, "--permit", l.path("root.json")); err != nil {
		return err
	}
	if err := l.agent("net", "root", l.path("root.json")); err != nil {
		return err
	}
	if _, err := l.until("net", l.command("root", "invite", "kube", "--uses", "100", "--expires", "1h", "--permit", l.path("kube.json"))...); err != nil {
		return err
	}
	if err := l.agent("laptop", "laptop", l.path("kube.json")); err != nil {
		return err
	}
	for _, c := range l.clusters {
		if err := c.join(); err != nil {
			return fmt.Errorf("cluster %s: %w", c.name, err)
		}
	}
	fmt.Printf("a hub, a laptop, an agent in each cluster, in %v\n", time.Since(began).Round(time.Second/10))
	return nil
}

// command is a command line for the agent of a name.
func (l *lab) command(agent string, words ...string) []string {
	return append([]string{l.ztm, "--data", l.path("agent-" + agent)}, words...)
}

// agent runs an agent and joins.
func (l *lab) agent(place, name, permit string) error {
	if _, err := l.run(place, name, l.ztm, "run", "agent", "--data", l.path("agent-"+name)); err != nil {
		return err
	}
	_, err := l.until(place, l.command(name, "join", "demo", "--as", name, "--permit", permit)...)
	return err
}

// join puts the agent into the cluster, with the rights of our manifests, and pods to talk to.
func (c *cluster) join() error {
	text, err := os.ReadFile("deploy/kubernetes/agent/rbac.yaml")
	if err != nil {
		return err
	}
	role, err := os.ReadFile("deploy/kubernetes/import/role.yaml")
	if err != nil {
		return err
	}
	own := map[string]string{"a": "shop", "b": "stock"}[c.name]
	steps := []func() error{
		func() error {
			_, err := c.kubectl("", "apply", "-f", "deploy/kubernetes/agent/namespace.yaml")
			return err
		},
		func() error { return c.apply(string(text)) },
		func() error { _, err := c.kubectl(string(role), "apply", "-n", "shop", "-f", "-"); return err },
		func() error { _, err := c.kubectl("", "apply", "-k", "deploy/kubernetes/conditions"); return err },
		func() error { return c.account("ztm-agent") },
		func() error { return c.pod("shop", "client", clientIP, "") },
		func() error {
			return c.pod(own, "web-1", webIP, c.lab.self, "-serve", ":8000", "The shop of cluster "+c.name)
		},
		func() error { return c.apply(webService(own, "")) },
		c.startAgent,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func webService(namespace, annotations string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":%q,"annotations":{%s}},
		"spec":{"selector":{"app":"web"},"ports":[{"port":80,"targetPort":8000}]}}`, namespace, annotations)
}

// account writes a token of an account in the namespace ztm. options are those of the command.
func (c *cluster) account(name string, options ...string) error {
	token, err := c.kubectl("", append([]string{"create", "token", name, "-n", "ztm", "--duration", "1h"}, options...)...)
	if err != nil {
		return err
	}
	return os.WriteFile(c.path(name+".token"), []byte(strings.TrimSpace(token)), 0o600)
}

// atAPI are the options by which an agent in a pod finds the API server.
func (c *cluster) atAPI(account string) []string {
	return []string{"--kube-server", "https://" + apiIP, "--kube-token", c.path(account + ".token"), "--kube-ca", c.path("server/apiserver.crt")}
}

// startAgent makes the pod of the agent.
func (c *cluster) startAgent() error {
	if err := c.pod("ztm", "agent", agentIP, ""); err != nil {
		return err
	}
	var err error
	if c.uid, err = c.kubectl("", "get", "pod", "agent", "-n", "ztm", "-o", "jsonpath={.metadata.uid}"); err != nil {
		return err
	}
	return c.runAgent()
}

// runAgent runs the agent in its pod until it is ready.
func (c *cluster) runAgent() (err error) {
	args := append([]string{"POD_NAME=agent", "POD_NAMESPACE=ztm", "NODE_NAME=node-1", "POD_UID=" + c.uid, "POD_IPS=" + agentIP,
		c.lab.ztm, "run", "agent", "--data", c.path("agent"), "--join", "demo", "--join-as", "kube-" + c.name, "--permit", c.lab.path("kube.json"),
		"--kubernetes", "--kube-conditions", "--kube-import-ports", "20000-20099", "--health", ":8081"}, c.atAPI("ztm-agent")...)
	if c.agent, err = c.exec("agent", "agent", "env", args...); err != nil {
		return err
	}
	_, err = c.lab.until(c.name, "curl", "-sSf", "--max-time", "5", "http://"+agentIP+":8081/readyz")
	return err
}

// curl is a request that ends.
func curl(url string, options ...string) []string {
	return append(append([]string{"curl", "-sS", "--fail", "--max-time", "10"}, options...), url)
}

// matches returns nil if an output has a text.
func matches(out, text string, err error) error {
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if !strings.Contains(out, text) {
		return errors.New(out)
	}
	return nil
}
