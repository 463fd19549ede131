package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"ztm/agent/console"
	"ztm/agent/kube/kubetest"
	"ztm/apps/appstest"
)

// podAddress returns an address of this machine at which a pod can be: loopback is never a target.
func podAddress(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	t.Skip("this machine has loopback alone")
	return ""
}

// pod is a process `ztm run agent --kubernetes`.
type pod struct {
	w      *world
	name   string
	health string
	stop   func() error
}

// startPod starts an agent in a pod, as endpoint "kube-NAME" of root.
func (w *world) startPod(t *testing.T, name string, server *httptest.Server, more ...string) *pod {
	t.Helper()
	p := &pod{w: w, name: name, health: appstest.FreeAddress(t)}
	w.write("token", "secret\n")
	bin, data := program(t), w.path(name)
	args := append([]string{"run", "agent", "--data", data, "--join", "demo", "--join-as", "kube-" + name, "--permit", w.path("root.json"),
		"--kubernetes", "--kube-server", server.URL, "--kube-token", w.path("token"), "--health", p.health}, more...)
	cmd := command(t, bin, data, filepath.Join(bin, "ztm"), args...)
	if slices.Contains(more, "--kube-import-ports") {
		cmd.Env = append(cmd.Env, "POD_NAME=ztm-"+name, "POD_NAMESPACE=ztm", "POD_UID=uid-of-"+name, "POD_IPS="+podAddress(t))
	}
	var log appstest.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	p.stop = func() error {
		cmd.Process.Signal(syscall.SIGTERM)
		err := <-ended
		ended <- err
		return err
	}
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("log of pod %s:\n%s", name, &log)
		}
	})
	return p
}

// ready waits until the kubelet would send connections.
func (p *pod) ready() {
	p.w.t.Helper()
	p.w.until("pod "+p.name+" is ready", func() error {
		if code, body := fetch(p.health, "/readyz"); code != 200 {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
}

const clusterService = `{"spec":{"type":"ClusterIP","clusterIP":"10.43.0.9","ports":[{"port":80,"protocol":"TCP"}],"selector":{"app":"web"}}%s}`

// putService makes a Service of a cluster, with an annotation, and one pod behind it.
func putService(c *kubetest.Server, name, annotation, address string) {
	c.PutJSON("/api/v1/namespaces/shop/services/"+name, fmt.Sprintf(clusterService, `,"metadata":{"annotations":{`+annotation+`}}`))
	host, port, _ := net.SplitHostPort(address)
	c.PutJSON("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/"+name+"-1", fmt.Sprintf(`{"addressType":"IPv4",
		"metadata":{"labels":{"kubernetes.io/service-name":%q,"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io"}},
		"endpoints":[{"addresses":[%q],"targetRef":{"kind":"Pod","namespace":"shop","name":"p"}}],"ports":[{"name":"","port":%s,"protocol":"TCP"}]}`, name, host, port))
}

func TestAServiceOfAClusterIsReachedByItsName(t *testing.T) {
	address := podAddress(t)
	ln, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, ln, "hello from the pod\n")
	w := newWorld(t)
	w.join("root", "root")
	c := &kubetest.Server{}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	putService(c, "web", `"ztm.dev/expose":"true"`, ln.Addr().String())
	putService(c, "hidden", "", ln.Addr().String())
	p := w.startPod(t, "pod", server)
	p.ready()

	listen := appstest.FreeAddress(t)
	w.ztm("root", "tunnel", "open", "inbound", "tcp/shop.web", "--listen", listen)
	w.until("the Service answers", func() error {
		if got, err := echo(listen, ""); err != nil || got != "hello from the pod\n" {
			return fmt.Errorf("%q, %v", got, err)
		}
		return nil
	})
	if out := w.ztm("root", "get", "tunnel"); strings.Contains(out, "hidden") || !strings.Contains(out, "kube-pod") {
		t.Errorf("tunnels are:\n%s", out)
	}
	w.write("tunnels.yaml", w.ztm("root", "tunnel", "export"))
	if out := w.ztm("root", "tunnel", "export", "-o", "json"); strings.Contains(out, ln.Addr().String()) {
		t.Errorf("what the cluster asks for is in a file of what people set:\n%s", out)
	}
	w.ztm("root", "apply", "-f", w.path("tunnels.yaml"))
	w.until("an event says so", func() error {
		for _, e := range c.Below("/api/v1/namespaces/shop/events") {
			if e["reason"] == "Exposed" {
				return nil
			}
		}
		return errors.New("there is none")
	})

	c.Delete("/api/v1/namespaces/shop/services/web")
	w.until("the Service is gone", func() error {
		if out := w.ztm("root", "get", "ep", "-o", "json"); strings.Contains(out, "shop.web") {
			return errors.New(out)
		}
		return nil
	})
}

func TestAServiceOfAClusterStandsForATunnel(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.ztm("root", "tunnel", "open", "outbound", "tcp/prod.db", "--targets", echoServer(t))
	c := &kubetest.Server{}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	c.PutJSON("/api/v1/namespaces/shop", `{"metadata":{"annotations":{"ztm.dev/allow-import":"prod.*"}}}`)
	c.PutJSON("/api/v1/namespaces/shop/services/db", `{"metadata":{"annotations":{"ztm.dev/import":"prod.db@ep-root"}},
		"spec":{"clusterIP":"10.43.0.5","ports":[{"port":5432,"protocol":"TCP"}]}}`)
	p := w.startPod(t, "pod", server, "--kube-import-ports", "21000-29999")
	p.ready()
	collection := "/apis/discovery.k8s.io/v1/endpointslices"
	w.until("the Service leads through the tunnel", func() error {
		for _, s := range c.Below(collection) {
			address := s["endpoints"].([]any)[0].(kubetest.Object)["addresses"].([]any)[0]
			port := s["ports"].([]any)[0].(kubetest.Object)["port"]
			got, err := echo(fmt.Sprint(address, ":", port), "hello")
			if err != nil || got != "hello" {
				return fmt.Errorf("%q, %v", got, err)
			}
			return nil
		}
		return errors.New("there is no slice")
	})
	if err := p.stop(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if left := c.Below(collection); len(left) != 0 {
		t.Errorf("it left %v", left)
	}
}

func TestAnAgentThatDrainsEndsWithItsLastFlow(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	server := httptest.NewServer(&kubetest.Server{})
	t.Cleanup(server.Close)
	p := w.startPod(t, "pod", server, "--drain", "1m")
	p.ready()
	w.ztm("root", "ep", "kube-pod", "tunnel", "open", "outbound", "tcp/echo", "--targets", echoServer(t))
	listen := appstest.FreeAddress(t)
	w.ztm("root", "tunnel", "open", "inbound", "tcp/echo", "--listen", listen)
	c, err := net.Dial("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answers := func(text string) {
		t.Helper()
		io.WriteString(c, text)
		got := make([]byte, len(text))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
			t.Fatalf("the flow answers %q, %v", got, err)
		}
	}
	answers("before")
	ended := make(chan error, 1)
	go func() { ended <- p.stop() }()
	w.until("nothing is offered", func() error {
		if out := w.ztm("root", "get", "ep", "-o", "json"); strings.Contains(out, "tunnel/tcp/echo") {
			return errors.New(out)
		}
		return nil
	})
	answers("while it drains")
	c.Close()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// A rolling update of the agents must not be seen by those who connect.
func TestAReplicaThatEndsIsMissedByNobody(t *testing.T) {
	address := podAddress(t)
	ln, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, ln, "hello\n")
	w := newWorld(t)
	w.join("root", "root")
	c := &kubetest.Server{}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	putService(c, "web", `"ztm.dev/expose":"true"`, ln.Addr().String())
	first, second := w.startPod(t, "first", server, "--drain", "1m"), w.startPod(t, "second", server)
	first.ready()
	second.ready()
	listen := appstest.FreeAddress(t)
	w.ztm("root", "tunnel", "open", "inbound", "tcp/shop.web", "--listen", listen)
	ask := func() error {
		got, err := echo(listen, "")
		if err != nil || got != "hello\n" {
			return fmt.Errorf("%q, %v", got, err)
		}
		return nil
	}
	w.until("the Service answers", ask)
	ended := make(chan error, 1)
	go func() { ended <- first.stop() }()
	asked := 0
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("it ended with %v", err)
			}
			if err := ask(); err != nil {
				t.Errorf("after the end: %v", err)
			}
			if asked < 10 {
				t.Errorf("only %d connections were made meanwhile", asked)
			}
			exposed := 0
			for _, e := range c.Below("/api/v1/namespaces/shop/events") {
				if e["reason"] == "Exposed" {
					exposed++
				}
			}
			if exposed != 1 {
				t.Errorf("two replicas wrote %d events", exposed)
			}
			return
		default:
			if err := ask(); err != nil {
				t.Fatalf("connection %d while a replica ends: %v", asked, err)
			}
			asked++
		}
	}
}

// kubectl asks for a path as kubectl does that has a kubeconfig. It returns what waits for the answer;
// nil is none.
func (w *world) kubectl(agent, cluster, kubeconfig, path string) (answer func() *http.Response) {
	w.t.Helper()
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server string
				CA     []byte `json:"certificate-authority-data"`
			}
		}
	}
	b, err := os.ReadFile(kubeconfig)
	if err == nil {
		err = json.Unmarshal(b, &config)
	}
	if err != nil || len(config.Clusters) != 1 {
		w.t.Fatal(config, err)
	}
	var credential struct{ Status struct{ Token string } }
	if err := json.Unmarshal([]byte(w.ztm(agent, "kube", "token", cluster)), &credential); err != nil {
		w.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(config.Clusters[0].Cluster.CA)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}
	r, err := http.NewRequestWithContext(w.t.Context(), "GET", config.Clusters[0].Cluster.Server+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+credential.Status.Token)
	done := make(chan *http.Response, 1)
	go func() { // ends with the test
		resp, err := transport.RoundTrip(r)
		if err != nil {
			resp = nil
		} else {
			resp.Body.Close()
		}
		done <- resp
	}()
	return func() *http.Response { return <-done }
}

func TestAMemberAsksTheAPIServerAsItself(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("alice", "alice")
	c := &kubetest.Server{}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	as := make(chan string, 100)
	c.Fail(func(r *http.Request) *kubetest.Failure {
		if r.URL.Path == "/version" {
			as <- r.Header.Get("Impersonate-User")
			return &kubetest.Failure{Code: 200, Body: "{}"}
		}
		return nil
	})
	p := w.startPod(t, "pod", server, "--kube-access")
	p.ready()
	w.until("the cluster is listed", func() error {
		if out := w.ztm("alice", "kube", "ls"); !strings.Contains(out, "kube-pod") {
			return errors.New(out)
		}
		return nil
	})
	w.ztm("alice", "kube", "login", "kube-pod", "--kubeconfig", w.path("kubeconfig"))
	resp := w.kubectl("alice", "kube-pod", w.path("kubeconfig"), "/version")()
	if got := <-as; resp == nil || resp.StatusCode != 200 || got != "ztm:alice" {
		t.Errorf("%v, as %q", resp, got)
	}
	w.ztm("alice", "kube", "logout", "kube-pod")
	if _, _, status := w.try("alice", "kube", "token", "kube-pod"); status == 0 {
		t.Error("there is a token after the logout")
	}
}

// manifest returns the arguments of the container in a manifest.
func manifest(t *testing.T, path string) (args []string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "        args:\n")
	for line := range strings.Lines(rest) {
		arg, ok := strings.CutPrefix(line, "        - ")
		if !ok {
			break
		}
		args = append(args, strings.TrimSpace(arg))
	}
	return args
}

func TestManifestsHaveCommandLinesThatAreRight(t *testing.T) {
	c := console.New(console.Config{Getenv: func(string) string { return "" }})
	for _, path := range []string{"deploy/kubernetes/agent/deployment.yaml", "deploy/kubernetes/access/access.yaml", "deploy/kubernetes/hub/hub.yaml"} {
		args := manifest(t, path)
		if len(args) < 4 || args[0] != "run" {
			t.Fatalf("%s: %q", path, args)
		}
		if err := c.Check(args, commands(c), false); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestAThousandServicesAreExposedWithFewRequests(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	c := &kubetest.Server{}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	for i := range 1000 {
		putService(c, fmt.Sprint("s", i), `"ztm.dev/expose":"true"`, "10.42.0.1:80")
	}
	p := w.startPod(t, "pod", server)
	p.ready()
	for _, args := range [][]string{{"ep", "kube-pod", "get", "tunnel"}, {"kube", "ls", "kube-pod"}} {
		if out := w.ztm("root", args...); strings.Count(out, "tcp/shop.s") != 1000 {
			t.Errorf("%s lists %d", args, strings.Count(out, "tcp/shop.s"))
		}
	}
	asked := 0
	for _, r := range c.Requests() {
		if !strings.HasPrefix(r, "POST") {
			asked++
		}
	}
	if asked > 10 {
		t.Errorf("%d requests besides events", asked)
	}
}

// serveOn answers every connection with a text.
func serveOn(t *testing.T, ln net.Listener, text string) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, text)
			c.Close()
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
}

// fetch asks an HTTP server of a test. It returns status 0 where nobody answers.
func fetch(address, path string) (status int, body string) {
	resp, err := http.Get("http://" + address + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// TestNamesOfAClusterAreOneCommandAway: the endpoint becomes their exit, and this one leads them there.
func TestNamesOfAClusterAreOneCommandAway(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("east", "root")
	w.join("west", "root")
	listen := appstest.FreeAddress(t)
	if out := w.ztm("root", "kube", "proxy", "ep-east", "--listen", listen); !strings.Contains(out, "socks5h://"+listen) {
		t.Errorf("it does not say how to use it:\n%s", out)
	}
	w.ztm("root", "kube", "proxy", "ep-west", "--namespaces", "shop,stock")
	w.ztm("root", "ep", "ep-west", "kube", "proxy", "ep-east", "--listen", appstest.FreeAddress(t), "--namespaces", "far")
	type config struct {
		Listens, Targets []string
		Routes           []struct{ Pattern, Name string }
	}
	look := func(words ...string) (c config) {
		if err := json.Unmarshal([]byte(w.ztm("root", append(words, "proxy", "config", "-o", "json")...)), &c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	here := look()
	routes := map[string]string{}
	for _, r := range here.Routes {
		routes[r.Pattern] = r.Name
	}
	want := map[string]string{"*.svc.cluster.local": "ep-east", "*.shop.svc.cluster.local": "ep-west", "*.stock.svc.cluster.local": "ep-west"}
	if !slices.Equal(here.Listens, []string{listen}) || !maps.Equal(routes, want) {
		t.Errorf("%+v", here)
	}
	for ep, targets := range map[string][]string{"ep-east": {"*.svc.cluster.local", "*.far.svc.cluster.local"}, "ep-west": {"*.shop.svc.cluster.local", "*.stock.svc.cluster.local"}} {
		if got := look("ep", ep); !slices.Equal(got.Targets, targets) {
			t.Errorf("%s: %+v", ep, got)
		}
	}
	if _, stderr, status := w.try("root", "kube", "proxy", "ep-east", "--domain", "a b"); status != 2 {
		t.Errorf("it takes any domain: %d %s", status, stderr)
	}
}
