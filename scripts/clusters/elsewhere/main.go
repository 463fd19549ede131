// Command elsewhere shows what command clusters shows, in clusters of k3d or kind: two that were made
// alike, and a mesh that joins them. It needs Docker, kubectl, and k3d or kind. Its steps were tried with
// stand-ins of these programs, see the test.
//
//	image      this program, in an image of Docker
//	network    one for both clusters, so that their nodes reach the hub
//	mesh       a hub, an endpoint of root, a laptop: containers
//	clusters   two; in each the manifests of deploy/kubernetes/agent, and a Service with the annotation
//	demo       the laptop uses both Services; a Service of cluster b stands for one of cluster a
//	remove     all of it
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"ztm/scripts/process"
)

const (
	name     = "ztm-demo" // what is made in Docker begins with it
	subnet   = "172.30.77.0/24"
	hubIP    = "172.30.77.250"
	hubAt    = hubIP + ":8888"
	image    = "ztm:latest"               // as the manifests have it
	web      = "hashicorp/http-echo:1.0"  // a web server that says one text
	asker    = "curlimages/curl:8.11.0"   // asks it, from a pod
	timeout  = 5 * time.Minute            // for anything: images are fetched meanwhile
	platform = "GOOS=linux CGO_ENABLED=0" // of the program in the image
	dataDir  = "/var/lib/ztm"             // in a container
	permits  = dataDir + "/root.json"     // of the hub
	agentDir = "deploy/kubernetes/agent"  // our manifests
	roleFile = "deploy/kubernetes/import/role.yaml"
)

func main() {
	keep := flag.Bool("keep", false, "leave all running, and say how to remove it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "clusters:", err)
		os.Exit(1)
	}
}

// demo is what is made.
type demo struct {
	ctx      context.Context
	out      io.Writer
	dir      string
	tool     tool
	clusters []string
}

func run(ctx context.Context, out io.Writer, keep bool) error {
	t, err := choose()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", name+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &demo{ctx, out, dir, t, []string{"a", "b"}}
	for _, step := range []func() error{d.image, d.network, d.mesh, d.make, d.show} {
		if err = step(); err != nil {
			break
		}
	}
	if keep {
		fmt.Fprintf(out, "all of it stays: %s-* of docker and %s\n", name, t.name)
		return err
	}
	d.ctx = context.WithoutCancel(ctx)
	return errors.Join(err, d.remove())
}

// do runs a command, shows it, and returns what it prints.
func (d *demo) do(words ...string) (string, error) { return d.with(nil, nil, words...) }

// with runs a command with more in its environment, and an input.
func (d *demo) with(env []string, in []byte, words ...string) (string, error) {
	fmt.Fprintln(d.out, "$", strings.Join(append(env, words...), " "))
	cmd := exec.CommandContext(d.ctx, words[0], words[1:]...)
	cmd.Env, cmd.Stdin = append(os.Environ(), env...), bytes.NewReader(in)
	var said, why bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &why
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, why.String())
	}
	return said.String(), nil
}

// each runs commands until one fails.
func (d *demo) each(commands ...[]string) error {
	for _, words := range commands {
		if _, err := d.do(words...); err != nil {
			return err
		}
	}
	return nil
}

// until runs a command until it succeeds.
func (d *demo) until(words ...string) (out string, err error) {
	err = process.Until(d.ctx, strings.Join(words, " "), timeout, func() (err error) {
		out, err = d.do(words...)
		return err
	})
	return out, err
}

// image builds the program and an image that has nothing else.
func (d *demo) image() error {
	dir := filepath.Join(d.dir, "image")
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o700); err != nil {
		return err
	}
	file := "FROM scratch\nCOPY ztm /usr/bin/ztm\nCOPY --chown=65532:65532 data " + dataDir + "\nENV PATH=/usr/bin ZTM_DATA=" + dataDir + " HOME=" + dataDir + "\nUSER 65532:65532\nENTRYPOINT [\"/usr/bin/ztm\"]\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(file), 0o600); err != nil {
		return err
	}
	if _, err := d.with(append(strings.Fields(platform), "GOARCH="+runtime.GOARCH), nil, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "ztm"), "ztm"); err != nil {
		return err
	}
	return d.each([]string{"docker", "build", "-q", "-t", image, dir})
}

func (d *demo) network() error {
	return d.each([]string{"docker", "network", "create", "--subnet", subnet, name})
}

// container runs the image.
func (d *demo) container(which string, options []string, words ...string) error {
	run := append([]string{"docker", "run", "-d", "--name", name + "-" + which, "--network", name}, options...)
	return d.each(append(append(run, image), words...))
}

// ztm runs a command of the program in a container.
func (d *demo) ztm(which string, in []byte, words ...string) (string, error) {
	words = append([]string{"docker", "exec", "-i", name + "-" + which, "ztm"}, words...)
	var out string
	err := process.Until(d.ctx, strings.Join(words, " "), timeout, func() (err error) {
		out, err = d.with(nil, in, words...)
		return err
	})
	return out, err
}

// mesh makes a hub, an endpoint of root and one of the user kube. The permit of kube is in the file
// kube.json.
func (d *demo) mesh() error {
	if err := d.container("hub", []string{"--ip", hubIP}, "run", "hub", "--names", hubAt, "--permit", permits); err != nil {
		return err
	}
	file := filepath.Join(d.dir, "root.json")
	if _, err := d.until("docker", "cp", name+"-hub:"+permits, file); err != nil {
		return err
	}
	root, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := d.container("root", nil, "run", "agent"); err != nil {
		return err
	}
	if _, err := d.ztm("root", root, "join", "demo", "--as", "root", "--permit", "-"); err != nil {
		return err
	}
	kube, err := d.ztm("root", nil, "invite", "kube", "--uses", "100", "--ephemeral", "--expires", "24h", "--permit", "-")
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.permit(), []byte(kube), 0o600); err != nil {
		return err
	}
	if err := d.container("laptop", []string{"-p", "127.0.0.1::8001", "-p", "127.0.0.1::8002"}, "run", "agent"); err != nil {
		return err
	}
	_, err = d.ztm("laptop", []byte(kube), "join", "demo", "--as", "laptop", "--permit", "-")
	return err
}

func (d *demo) permit() string { return filepath.Join(d.dir, "kube.json") }

// make makes the clusters, and an agent and a Service in each.
func (d *demo) make() error {
	for _, c := range d.clusters {
		if err := d.tool.create(d, c); err != nil {
			return err
		}
		text := "-text=The shop of cluster " + c
		if err := d.each(
			d.kubectl(c, "create", "namespace", "ztm"),
			d.kubectl(c, "create", "namespace", "shop"+c),
			d.kubectl(c, "-n", "ztm", "create", "secret", "generic", "ztm-token", "--from-file=token="+d.permit()),
			d.kubectl(c, "apply", "-k", agentDir),
			d.kubectl(c, "-n", "ztm", "patch", "deployment", "ztm-agent", "--type=json", "-p", pulled),
			d.kubectl(c, "-n", "ztm", "rollout", "status", "deployment/ztm-agent", "--timeout=5m"),
			d.kubectl(c, "-n", "shop"+c, "create", "deployment", "web", "--image="+web, "--", "/http-echo", text, "-listen=:8000"),
			d.kubectl(c, "-n", "shop"+c, "expose", "deployment", "web", "--port=80", "--target-port=8000"),
			d.kubectl(c, "-n", "shop"+c, "annotate", "service", "web", "ztm.dev/expose=true"),
		); err != nil {
			return err
		}
	}
	return nil
}

// pulled has the node use the image that it was given.
const pulled = `[{"op":"add","path":"/spec/template/spec/containers/0/imagePullPolicy","value":"IfNotPresent"}]`

func (d *demo) kubeconfig(c string) string { return filepath.Join(d.dir, c+".yaml") }

func (d *demo) kubectl(c string, words ...string) []string {
	return append([]string{"kubectl", "--kubeconfig", d.kubeconfig(c)}, words...)
}

// show uses the Service of each cluster on the laptop, and that of a in b.
func (d *demo) show() error {
	for i, c := range d.clusters {
		port := fmt.Sprint(8001 + i)
		if _, err := d.ztm("laptop", nil, "tunnel", "open", "inbound", "tcp/shop"+c+".web", "--listen", "0.0.0.0:"+port); err != nil {
			return err
		}
		at, err := d.do("docker", "port", name+"-laptop", port+"/tcp")
		if err != nil {
			return err
		}
		if err := d.answers("http://"+strings.TrimSpace(at)+"/", "The shop of cluster "+c); err != nil {
			return err
		}
	}
	role, err := os.ReadFile(roleFile)
	if err != nil {
		return err
	}
	manifest := `{"apiVersion":"v1","kind":"Service","metadata":{"name":"theirs","annotations":{"ztm.dev/import":"shopa.web"}},"spec":{"ports":[{"port":80}]}}`
	if err := d.each(d.kubectl("b", "annotate", "namespace", "shopb", "ztm.dev/allow-import=shopa.*")); err != nil {
		return err
	}
	for _, text := range []string{string(role), manifest} {
		if _, err := d.with(nil, []byte(text), d.kubectl("b", "-n", "shopb", "apply", "-f", "-")...); err != nil {
			return err
		}
	}
	out, err := d.do(d.kubectl("b", "-n", "shopb", "run", "ask", "--rm", "-i", "--restart=Never", "--image="+asker, "--",
		"curl", "-sS", "--retry", "30", "--retry-all-errors", "--retry-delay", "1", "http://theirs/")...)
	if err == nil && !strings.Contains(out, "The shop of cluster a") {
		err = fmt.Errorf("a pod of cluster b was answered %q", out)
	}
	fmt.Fprint(d.out, out)
	return err
}

// answers asks a web server until it says a text.
func (d *demo) answers(url, text string) error {
	fmt.Fprintln(d.out, "$ curl", url)
	return process.Until(d.ctx, url, timeout, func() error {
		r, err := http.NewRequestWithContext(d.ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		if err == nil && !strings.Contains(string(b), text) {
			err = fmt.Errorf("it says %q", b)
		}
		if err == nil {
			fmt.Fprintf(d.out, "%s\n", b)
		}
		return err
	})
}

// remove takes away all that may be there.
func (d *demo) remove() error {
	var errs []error
	for _, c := range d.clusters {
		errs = append(errs, d.each(d.tool.remove(c)))
	}
	errs = append(errs, d.each([]string{"docker", "rm", "-f", "-v", name + "-hub", name + "-root", name + "-laptop"}))
	return errors.Join(append(errs, d.each([]string{"docker", "network", "rm", name}))...)
}
