//go:build linux

package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// line is a command that is shown.
type line struct {
	place string
	shown string   // as people type it
	words []string // as it is run
	want  string   // what it has to print, in the end
}

// demo shows what the mesh is for, each way both ways.
func (l *lab) demo() error {
	a, b := l.clusters[0], l.clusters[1]
	parts := []struct {
		title string
		do    func() error
	}{
		{"Both clusters expose a Service by an annotation", func() error {
			if err := a.expose("shop"); err != nil {
				return err
			}
			return b.expose("stock")
		}},
		{"On the laptop each has a port", func() error { return l.tunnels("shop.web", "stock.web") }},
		{"All names of a cluster, through a proxy", l.proxies},
		{"In each cluster, a Service stands for one of the other", func() error {
			if err := b.imports("theirs", "shop.web", "a"); err != nil {
				return err
			}
			return a.imports("theirs", "stock.web", "b")
		}},
		{"kubectl on the laptop, at the API server of cluster a, as oneself", a.access},
	}
	for _, p := range parts {
		fmt.Printf("\n# %s\n", p.title)
		if err := p.do(); err != nil {
			return fmt.Errorf("%s: %w", p.title, err)
		}
	}
	return nil
}

// show runs a line until it prints what it has to, and prints it.
func (l *lab) show(s line) error {
	fmt.Printf("%s$ %s\n", s.place, s.shown)
	var out string
	took, err := l.prints(s.want, s.place, s.words...)
	if err != nil {
		return err
	}
	if s.want != "" {
		out = s.want + "\n"
	}
	fmt.Printf("%s  (%v)\n", out, took.Round(time.Millisecond))
	return nil
}

// ztmShow shows a command of the laptop's agent.
func (l *lab) ztmShow(words ...string) error {
	return l.show(line{"laptop", "ztm " + strings.Join(words, " "), l.command("laptop", words...), ""})
}

func (c *cluster) expose(namespace string) error {
	words := []string{"kubectl", "annotate", "service", "web", "-n", namespace, "--overwrite", "ztm.dev/expose=true"}
	return c.lab.show(line{c.name, strings.Join(words, " "), append(words, "--kubeconfig", c.path("admin.json")), "annotated"})
}

// tunnels opens an inbound on the laptop for each tunnel, and uses it.
func (l *lab) tunnels(names ...string) error {
	for i, name := range names {
		port := fmt.Sprint(8001 + i)
		if err := l.ztmShow("tunnel", "open", "inbound", "tcp/"+name, "--listen", port); err != nil {
			return err
		}
		url := "http://127.0.0.1:" + port + "/"
		if err := l.show(line{"laptop", "curl " + url, curl(url), "The shop of cluster " + l.clusters[i].name}); err != nil {
			return err
		}
	}
	return nil
}

// proxies lets the laptop, and a pod of each cluster, to all names of the clusters.
func (l *lab) proxies() error {
	const at = "127.0.0.1:1080"
	spaces := []string{"shop", "stock"}
	names := []string{"web.shop.svc.cluster.local", "web.stock.svc.cluster.local"}
	for i, c := range l.clusters {
		if err := l.ztmShow("kube", "proxy", "kube-"+c.name, "--namespaces", spaces[i]); err != nil {
			return err
		}
		url := "http://" + names[i] + "/"
		if err := l.show(line{"laptop", "curl -x socks5h://" + at + " " + url, curl(url, "-x", "socks5h://"+at), "The shop of cluster " + c.name}); err != nil {
			return err
		}
	}
	for i, c := range l.clusters {
		other, url := l.clusters[1-i], "http://"+names[1-i]+"/"
		if err := l.ztmShow("ep", "kube-"+c.name, "kube", "proxy", "kube-"+other.name, "--namespaces", spaces[1-i], "--listen", agentIP+":1080"); err != nil {
			return err
		}
		err := l.show(line{c.name + "-client", "curl -x socks5h://" + agentIP + ":1080 " + url, curl(url, "-x", "socks5h://"+agentIP+":1080"), "The shop of cluster " + other.name})
		if err != nil {
			return err
		}
	}
	return nil
}

// imports makes a Service that stands for a tunnel, and uses it from a pod.
func (c *cluster) imports(name, tunnel, of string) error {
	manifest := fmt.Sprintf(`{"apiVersion":"v1","kind":"Service","metadata":{"name":%q,"namespace":"shop","annotations":{"ztm.dev/import":%q}},"spec":{"ports":[{"port":80}]}}`, name, tunnel)
	fmt.Printf("%s$ kubectl -n shop apply -f %s.yaml    # a Service without a selector, with the annotation ztm.dev/import: %s\n", c.name, name, tunnel)
	if err := c.apply(manifest); err != nil {
		return err
	}
	url := "http://" + name + "/"
	return c.lab.show(line{c.name + "-client", "curl " + url, curl(url), "The shop of cluster " + of})
}

// access is kubectl through the mesh.
func (c *cluster) access() error {
	text := `{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"ztm-access","namespace":"ztm"}}`
	if _, err := c.lab.until("net", c.lab.command("root", "group", "add", "dev", "kube")...); err != nil {
		return err
	}
	rules, err := c.lab.until("laptop", c.lab.command("laptop", "kube", "rbac", "--groups", "dev")...)
	if err != nil {
		return err
	}
	if err := c.apply(rules + "\n---\n" + text); err != nil {
		return err
	}
	if err := c.account("ztm-access"); err != nil {
		return err
	}
	if _, err := c.kubectl("", "create", "clusterrolebinding", "kube-view", "--clusterrole=view", "--user=ztm:kube"); err != nil {
		return err
	}
	if err := c.pod("ztm", "access", accessIP, ""); err != nil {
		return err
	}
	args := append([]string{"run", "agent", "--data", c.path("access"), "--join", "demo", "--join-as", "api-" + c.name, "--permit", c.lab.path("kube.json"), "--kube-access", "--kube-groups", "dev"}, c.atAPI("ztm-access")...)
	if _, err := c.exec("access", "access", c.lab.ztm, args...); err != nil {
		return err
	}
	config, l := c.path("login.json"), c.lab
	login := line{"laptop", "ztm kube login api-" + c.name, l.command("laptop", "kube", "login", "api-"+c.name, "--kubeconfig", config), ""}
	if err := l.show(login); err != nil {
		return err
	}
	shown := "kubectl --kubeconfig " + filepath.Base(config) + " "
	kubectl := []string{"kubectl", "--kubeconfig", config, "--cache-dir", c.path("cache")}
	if err := l.show(line{"laptop", shown + "auth whoami", append(kubectl, "auth", "whoami"), "ztm:kube"}); err != nil {
		return err
	}
	if err := l.show(line{"laptop", shown + "auth whoami", append(kubectl, "auth", "whoami"), "ztm:dev"}); err != nil {
		return err
	}
	if err := l.show(line{"laptop", shown + "-n shop get pods", append(kubectl, "-n", "shop", "get", "pods"), "web-1"}); err != nil {
		return err
	}
	denied := []string{"sh", "-c", strings.Join(append(kubectl, "-n", "shop", "delete", "pod", "web-1"), " ") + " 2>&1 || true"}
	return l.show(line{"laptop", shown + "-n shop delete pod web-1", denied, `User "ztm:kube" cannot delete resource "pods"`})
}
