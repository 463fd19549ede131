//go:build linux

package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"ztm/scripts/process"
)

const (
	api    = "https://" + nodeIP + ":6443"
	etcdAt = "http://127.0.0.1:2379" // of the node
)

// cluster is a control plane, a node and pods. All programs of the first two are at one place.
type cluster struct {
	lab    *lab
	name   string // "a": the place of the node, too
	dir    string
	server *process.Process // the API server
	agent  *process.Process
	uid    string // of the agent's pod
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

// start makes both clusters.
func (l *lab) start() error {
	began := time.Now()
	errs := make(chan error, len(l.clusters))
	for _, c := range l.clusters {
		if err := c.control(); err != nil {
			return err
		}
	}
	for _, c := range l.clusters {
		go func() { errs <- c.ready() }()
	}
	for range l.clusters {
		if err := <-errs; err != nil {
			return err
		}
	}
	for _, c := range l.clusters {
		if err := c.node(); err != nil {
			return err
		}
	}
	fmt.Printf("two clusters with the same addresses, in %v\n", time.Since(began).Round(time.Second/10))
	return nil
}

// control starts etcd and the API server.
func (c *cluster) control() error {
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return err
	}
	if err := c.secrets(); err != nil {
		return err
	}
	if err := c.start("etcd", "etcd", "--data-dir", c.path("etcd"), "--listen-client-urls", etcdAt, "--advertise-client-urls", etcdAt, "--listen-peer-urls", "http://127.0.0.1:2380"); err != nil {
		return err
	}
	return c.startServer()
}

func (c *cluster) start(name, program string, args ...string) error {
	_, err := c.lab.run(c.name, c.name+"-"+name, program, args...)
	return err
}

func (c *cluster) startServer() (err error) {
	key := c.path("accounts.pem")
	c.server, err = c.lab.run(c.name, c.name+"-apiserver", filepath.Join(c.lab.programs, "kube-apiserver"),
		"--etcd-servers="+etcdAt, "--bind-address=0.0.0.0", "--advertise-address="+nodeIP, "--secure-port=6443", "--cert-dir="+c.path("server"),
		"--service-cluster-ip-range="+service, "--service-account-issuer=https://kubernetes.default.svc.cluster.local", "--service-account-key-file="+key,
		"--service-account-signing-key-file="+key, "--authorization-mode=RBAC", "--token-auth-file="+c.path("tokens.csv"))
	return err
}

// secrets are the key of service accounts, and the tokens of the programs of the node.
func (c *cluster) secrets() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := os.WriteFile(c.path("accounts.pem"), text, 0o600); err != nil {
		return err
	}
	var tokens strings.Builder
	for _, user := range []struct{ name, user, groups string }{{"admin", "admin", "system:masters"}, {"proxy", "system:kube-proxy", ""}} {
		token := rand.Text()
		fmt.Fprintf(&tokens, "%s,%s,%s,%q\n", token, user.user, user.name, user.groups)
		if err := os.WriteFile(c.path(user.name+".token"), []byte(token), 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(c.path("tokens.csv"), []byte(tokens.String()), 0o600)
}

// ready waits for the API server, writes the kubeconfigs and starts the controllers.
func (c *cluster) ready() error {
	err := process.Until(c.lab.ctx, "API server "+c.name, timeout, func() error {
		if !c.server.Running() {
			return errors.New("it has ended")
		}
		if err := c.kubeconfigs(); err != nil {
			return err
		}
		_, err := c.kubectl("", "get", "--raw", "/readyz")
		return err
	})
	if err != nil {
		return err
	}
	admin := c.path("admin.json")
	return c.start("controllers", filepath.Join(c.lab.programs, "kube-controller-manager"), "--kubeconfig="+admin, "--authentication-kubeconfig="+admin, "--authorization-kubeconfig="+admin,
		"--leader-elect=false", "--service-account-private-key-file="+c.path("accounts.pem"), "--root-ca-file="+c.path("server/apiserver.crt"), "--cert-dir="+c.path("controllers"),
		"--controllers=endpointslice-controller,endpointslice-mirroring-controller,garbage-collector-controller,clusterrole-aggregation-controller,deployment-controller,replicaset-controller,serviceaccount-controller,namespace-controller,root-ca-certificate-publisher-controller")
}

// kubeconfigs writes those of the node's programs. They are JSON, which is YAML.
func (c *cluster) kubeconfigs() error {
	ca, err := os.ReadFile(c.path("server/apiserver.crt"))
	if err != nil {
		return err
	}
	for _, user := range []string{"admin", "proxy"} {
		token, err := os.ReadFile(c.path(user + ".token"))
		if err != nil {
			return err
		}
		named := func(key string, v any) []any { return []any{map[string]any{"name": "lab", key: v}} }
		b, err := json.Marshal(map[string]any{
			"apiVersion": "v1", "kind": "Config", "current-context": "lab",
			"clusters": named("cluster", map[string]any{"server": api, "certificate-authority-data": base64.StdEncoding.EncodeToString(ca)}),
			"users":    named("user", map[string]any{"token": string(token)}),
			"contexts": named("context", map[string]any{"cluster": "lab", "user": "lab"}),
		})
		if err != nil {
			return err
		}
		if err := os.WriteFile(c.path(user+".json"), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// kubectl runs kubectl as the administrator, with text as its standard input.
func (c *cluster) kubectl(text string, args ...string) (string, error) {
	words := append(c.lab.net.In(c.name), "kubectl", "--kubeconfig", c.path("admin.json"), "--cache-dir", c.path("kubectl"))
	cmd := exec.CommandContext(c.lab.ctx, words[0], append(words[1:], args...)...)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// apply applies manifests.
func (c *cluster) apply(text string) error {
	_, err := c.kubectl(text, "apply", "-f", "-")
	return err
}

// node makes the cluster's node with kube-proxy, DNS, and the namespaces.
func (c *cluster) node() error {
	steps := []func() error{
		func() error { return c.apply(basics) },
		func() error {
			_, err := c.kubectl("", "patch", "node", "node-1", "--subresource=status", "-p", `{"status":{"addresses":[{"type":"InternalIP","address":"`+nodeIP+`"}],"daemonEndpoints":{"kubeletEndpoint":{"Port":10250}}}}`)
			return err
		},
		func() error { return c.start("logs", c.lab.self, "-logs", nodeIP+":10250", c.lab.path(c.name)) },
		func() error {
			return c.start("proxy", filepath.Join(c.lab.programs, "kube-proxy"), "--kubeconfig="+c.path("proxy.json"), "--proxy-mode=nftables", "--hostname-override=node-1",
				"--cluster-cidr=10.42.0.0/16", "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
				"--healthz-bind-address=127.0.0.1:10256", "--metrics-bind-address=127.0.0.1:10249")
		},
		func() error { return os.WriteFile(c.path("Corefile"), []byte(c.corefile()), 0o600) },
		func() error {
			return c.pod("kube-system", "dns", "10.42.0.2", filepath.Join(c.lab.programs, "coredns"), "-conf", c.path("Corefile"))
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) corefile() string {
	return "cluster.local:53 {\n  errors\n  ready\n  kubernetes cluster.local {\n    kubeconfig " + c.path("admin.json") + " lab\n  }\n  cache 5\n}\n"
}

// basics are what every cluster here has.
const basics = `
{"apiVersion":"v1","kind":"Node","metadata":{"name":"node-1"}}
{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","annotations":{"ztm.dev/allow-import":"stock.* shop.*"}}}
{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"stock"}}
{"apiVersion":"v1","kind":"Service","metadata":{"name":"kube-dns","namespace":"kube-system"},"spec":{"clusterIP":"` + dnsIP + `","selector":{"app":"dns"},"ports":[
  {"name":"dns","port":53,"protocol":"UDP"},{"name":"dns-tcp","port":53,"protocol":"TCP"}]}}
`

// pod makes a pod that is ready, with the label app=NAME up to a dash, and starts its program. A
// cluster makes the account of a namespace's pods a little after the namespace.
func (c *cluster) pod(namespace, name, ip, program string, args ...string) error {
	if err := c.cable(name, ip); err != nil {
		return err
	}
	app, _, _ := strings.Cut(name, "-")
	manifest := fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"namespace":%q,"labels":{"app":%q}},
		"spec":{"nodeName":"node-1","securityContext":{"runAsNonRoot":true,"seccompProfile":{"type":"RuntimeDefault"}},
		"containers":[{"name":"main","image":"none","securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}}}]}}`, name, namespace, app)
	err := process.Until(c.lab.ctx, "pod "+name, timeout, func() error { return c.apply(manifest) })
	if err != nil {
		return err
	}
	if program != "" {
		if _, err := c.exec(name, name, program, args...); err != nil {
			return err
		}
	}
	return c.setReady(namespace, name, ip, true)
}

// exec starts a program in a pod.
func (c *cluster) exec(pod, log, program string, args ...string) (*process.Process, error) {
	return c.lab.run(c.name+"-"+pod, c.name+"-"+log, program, args...)
}

// setReady says of a pod what its kubelet would.
func (c *cluster) setReady(namespace, name, ip string, ready bool) error {
	status := map[bool]string{true: "True", false: "False"}[ready]
	_, err := c.kubectl("", "patch", "pod", name, "-n", namespace, "--subresource=status", "-p", fmt.Sprintf(
		`{"status":{"phase":"Running","podIP":%q,"podIPs":[{"ip":%q}],"conditions":[{"type":"Ready","status":%q,"lastTransitionTime":%q}]}}`, ip, ip, status, time.Now().UTC().Format(time.RFC3339)))
	return err
}
