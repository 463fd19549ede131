//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"ztm/scripts/process"
)

// check is something that must hold. do says what was seen.
type check struct {
	what string
	do   func() (string, error)
}

// each runs checks until one fails.
func (l *lab) each(checks []check) error {
	for _, check := range checks {
		if !strings.Contains(check.what, l.only) {
			continue
		}
		began := time.Now()
		said, err := check.do()
		if err != nil {
			return fmt.Errorf("%s: %w", check.what, err)
		}
		fmt.Printf("ok  %s (%v)  %s\n", check.what, time.Since(began).Round(time.Second/10), said)
	}
	return nil
}

// checks change and break the clusters.
func (l *lab) checks() error {
	a := l.clusters[0]
	return l.each([]check{
		{"the suite of agent/kube, at the real API server", a.suite},
		{"the agent beside the suite's thousand Services", a.memory},
		{"an event and the status of a Service say what became of it", a.says},
		{"pods are replaced one by one under load", a.rolled},
		{"the API server is killed, and what changed is seen", func() (string, error) { return a.away(a.server.Kill, a.restarted) }},
		{"the API server ends, and what changed is seen", func() (string, error) { return a.away(a.terminate, a.restarted) }},
		{"the API server stands still, and what changed is seen", func() (string, error) { return a.away(a.halt, a.resumed) }},
		{"the API server has forgotten the versions that the agent knows", a.expired},
		{"a namespace is deleted", a.namespaceGone},
		{"the agent's account may do nothing else", a.rights},
		{"an agent that is killed comes back, and so does what it exposed", a.agentKilled},
	})
}

// suite runs the tests that the small API server of the tests has to pass, too.
func (c *cluster) suite() (string, error) {
	binary := c.lab.path("kube.test")
	if _, err := os.Stat(binary); err != nil {
		build := exec.CommandContext(c.lab.ctx, "go", "test", "-c", "-o", binary, "ztm/agent/kube")
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w: %s", err, out)
		}
	}
	out, err := c.lab.net.Output(c.name, "env", "ZTM_KUBE_SERVER="+api, "ZTM_KUBE_TOKEN="+c.path("admin.token"), "ZTM_KUBE_CA="+c.path("server/apiserver.crt"),
		binary, "-test.run=TestAnAPIServerIsFollowed", "-test.v", "-test.timeout=20m")
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return "\n" + indented(out), nil
}

// indented returns the lines of an output that say what was measured.
func indented(out string) string {
	var b strings.Builder
	for line := range strings.Lines(out) {
		if _, said, ok := strings.Cut(line, "_test.go:"); ok {
			_, said, _ = strings.Cut(said, ": ")
			b.WriteString("      " + said)
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

// exposed returns how many tunnels the agent has.
func (c *cluster) exposed() (int, error) {
	out, err := c.lab.net.Output("laptop", c.lab.command("laptop", "ep", "kube-"+c.name, "get", "outbound", "-o", "json")...)
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	var list []any
	err = json.Unmarshal([]byte(out), &list)
	return len(list), err
}

// memory returns what the agent needs while the Services of the suite are exposed.
func (c *cluster) memory() (string, error) {
	var n int
	err := process.Until(c.lab.ctx, "a thousand tunnels", timeout, func() (err error) {
		if n, err = c.exposed(); err == nil && n < 1000 {
			err = fmt.Errorf("%d tunnels", n)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	_, agent := c.agent.Memory()
	_, server := c.server.Memory()
	return fmt.Sprintf("%d tunnels: at most %d MB, of the API server %d MB", n, agent>>20, server>>20), nil
}

// says looks at a Service as people do.
func (c *cluster) says() (string, error) {
	if _, err := c.kubectl("", "wait", "--for=condition=ztm.dev/Ready", "--timeout=60s", "-n", "shop", "service/web"); err != nil {
		return "", err
	}
	return "exposed as tcp/shop.web", process.Until(c.lab.ctx, "the event", timeout, func() error {
		out, err := c.kubectl("", "describe", "service", "web", "-n", "shop")
		return matches(out, "exposed as tcp/shop.web", err)
	})
}

// url is how the laptop reaches the Service web of the cluster, see demo.go.
func (c *cluster) url() string {
	for i, other := range c.lab.clusters {
		if other == c {
			return fmt.Sprintf("http://127.0.0.1:%d/", 8001+i)
		}
	}
	return ""
}

// rolled replaces the pods of a Service one by one while somebody asks it without a pause. A pod
// that is not ready answers still, as one does that ends with grace.
func (c *cluster) rolled() (string, error) {
	if err := c.pod("shop", "web-2", web2IP, c.lab.self, "-serve", ":8000", "The shop of cluster "+c.name+", pod 2"); err != nil {
		return "", err
	}
	load, err := c.lab.load("rolled", "laptop", curl(c.url()))
	if err != nil {
		return "", err
	}
	pods := []struct{ name, ip string }{{"web-1", webIP}, {"web-2", web2IP}}
	for range 4 {
		for _, p := range pods {
			if err := c.setReady("shop", p.name, p.ip, false); err != nil {
				return "", err
			}
			if err := c.targets(1); err != nil {
				return "", err
			}
			if err := c.setReady("shop", p.name, p.ip, true); err != nil {
				return "", err
			}
			if err := c.targets(2); err != nil {
				return "", err
			}
		}
	}
	return load.end()
}

// targets waits until the tunnel shop.web has so many targets.
func (c *cluster) targets(want int) error {
	return process.Until(c.lab.ctx, "targets", timeout, func() error {
		out, err := c.lab.net.Output("laptop", c.lab.command("laptop", "ep", "kube-"+c.name, "get", "outbound", "-o", "json")...)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		var list []struct {
			Name    string
			Targets []string
		}
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			return err
		}
		for _, o := range list {
			if o.Name == "shop.web" && len(o.Targets) == want {
				return nil
			}
		}
		return errors.New(out)
	})
}

// seen waits until a Service that was made is a tunnel, and one that was deleted is none.
func (c *cluster) seen(made, deleted string) (string, error) {
	began := time.Now()
	err := process.Until(c.lab.ctx, "tunnels of "+c.name, timeout, func() error {
		out, err := c.lab.net.Output("laptop", c.lab.command("laptop", "kube", "ls", "kube-"+c.name)...)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if !strings.Contains(out, "tcp/shop."+made+" ") || deleted != "" && strings.Contains(out, "tcp/shop."+deleted+" ") {
			return errors.New(out)
		}
		return nil
	})
	return "seen after " + time.Since(began).Round(time.Millisecond).String(), err
}

func (c *cluster) exposeNew(name string) error {
	return c.apply(fmt.Sprintf(`{"apiVersion":"v1","kind":"Service","metadata":{"name":%q,"namespace":"shop","annotations":{"ztm.dev/expose":"true"}},"spec":{"selector":{"app":"web"},"ports":[{"port":80,"targetPort":8000}]}}`, name))
}

// restarted waits for an API server that was started again.
func (c *cluster) restarted() error {
	if err := c.startServer(); err != nil {
		return err
	}
	return c.serves()
}

// serves waits until the API server says that it is ready.
func (c *cluster) serves() error {
	return process.Until(c.lab.ctx, "API server "+c.name, timeout, func() error {
		_, err := c.kubectl("", "get", "--raw", "/readyz")
		return err
	})
}

// away takes the API server away and brings it back. What is exposed answers meanwhile.
func (c *cluster) away(take func(), back func() error) (string, error) {
	if err := c.exposeNew("before"); err != nil {
		return "", err
	}
	if _, err := c.seen("before", "after"); err != nil {
		return "", err
	}
	take()
	if err := c.answers(); err != nil { // what is exposed stays
		return "", err
	}
	if err := back(); err != nil {
		return "", err
	}
	if _, err := c.kubectl("", "delete", "service", "before", "-n", "shop"); err != nil {
		return "", err
	}
	if err := c.exposeNew("after"); err != nil {
		return "", err
	}
	said, err := c.seen("after", "before")
	if err == nil {
		_, err = c.kubectl("", "delete", "service", "after", "-n", "shop")
	}
	return said, err
}

func (c *cluster) terminate() { c.server.End(timeout) }
func (c *cluster) halt()      { c.server.Signal(syscall.SIGSTOP) }

// resumed has an API server go on that stood still.
func (c *cluster) resumed() error {
	return errors.Join(c.server.Signal(syscall.SIGCONT), c.serves())
}

func (c *cluster) answers() error {
	_, err := c.lab.prints("The shop of cluster "+c.name, "laptop", curl(c.url())...)
	return err
}

// expired compacts etcd while the API server is away, and the agent stopped: it comes back with a
// version that nobody knows any longer.
func (c *cluster) expired() (string, error) {
	if err := c.exposeNew("old"); err != nil {
		return "", err
	}
	if _, err := c.seen("old", ""); err != nil {
		return "", err
	}
	agent := strconv.Itoa(c.agent.Pid())
	if _, err := c.lab.net.Output(c.name, "kill", "-STOP", agent); err != nil {
		return "", err
	}
	defer c.lab.net.Output(c.name, "kill", "-CONT", agent)
	if _, err := c.kubectl("", "delete", "service", "old", "-n", "shop"); err != nil {
		return "", err
	}
	if err := c.exposeNew("new"); err != nil {
		return "", err
	}
	c.server.Kill()
	if err := c.compact(); err != nil {
		return "", err
	}
	if err := c.restarted(); err != nil {
		return "", err
	}
	if _, err := c.lab.net.Output(c.name, "kill", "-CONT", agent); err != nil {
		return "", err
	}
	return c.seen("new", "old")
}

// compact has etcd forget all versions but the present one.
func (c *cluster) compact() error {
	out, err := c.lab.net.Output(c.name, curl(etcdAt+"/v3/maintenance/status", "-d", "{}")...)
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	var status struct{ Header struct{ Revision string } }
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		return err
	}
	out, err = c.lab.net.Output(c.name, curl(etcdAt+"/v3/kv/compaction", "-d", `{"revision":"`+status.Header.Revision+`","physical":true}`)...)
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (c *cluster) namespaceGone() (string, error) {
	if _, err := c.kubectl("", "delete", "namespace", "suite-6", "--wait=false"); err != nil {
		return "", err
	}
	err := process.Until(c.lab.ctx, "the tunnels of the namespace go", 2*timeout, func() error {
		n, err := c.exposed()
		if err == nil && n > 100 {
			err = fmt.Errorf("%d tunnels", n)
		}
		return err
	})
	return "", err
}

// rights asks the API server what the agent's account may do.
func (c *cluster) rights() (string, error) {
	for words, want := range map[string]bool{
		"list services": true, "watch endpointslices.discovery.k8s.io": true, "list namespaces": true, "create events": true,
		"get secrets": false, "list pods": false, "create services": false, "update services": false, "patch services --subresource=status": true, "create endpointslices.discovery.k8s.io": false,
		"impersonate users": false, "create serviceaccounts --subresource=token": false, "escalate clusterroles.rbac.authorization.k8s.io": false,
	} {
		out, err := c.kubectl("", append([]string{"auth", "can-i", "--as=system:serviceaccount:ztm:ztm-agent", "-n", "stock"}, strings.Fields(words)...)...)
		if may := err == nil && strings.HasSuffix("\n"+strings.TrimSpace(out), "\nyes"); may != want {
			return "", fmt.Errorf("%s: %v (%v)", words, may, err)
		}
	}
	return "", nil
}

func (c *cluster) agentKilled() (string, error) {
	c.agent.Kill()
	if err := c.runAgent(); err != nil {
		return "", err
	}
	began := time.Now()
	err := c.answers()
	return "answers " + time.Since(began).Round(time.Millisecond).String() + " after it is ready", err
}
