//go:build linux

// Command clusters shows two Kubernetes clusters that were made alike, with the same addresses, and
// a mesh that joins them: real API servers, controllers, kube-proxy and DNS; a pod is a process in a
// network namespace of its own. It needs root, ip, nft, curl, and etcd and kubectl of the system. The
// other programs are built from their Go modules, which takes a quarter of an hour, once.
//
//	scripts/clusters/run [--test [--only TEXT]] [--keep] [-ztm BINARY] [-programs DIR]
//	scripts/clusters/run --docker [--keep]    in clusters of k3d or kind, see elsewhere/
//
//	programs.go  the programs of Kubernetes
//	world.go     two nodes, a hub and a laptop; pods
//	cluster.go   a control plane and what runs in a cluster
//	mesh.go      a hub, an agent in each cluster, a laptop
//	demo.go      what people see: tunnel, proxy, import by name, kubectl, both ways
//	--test:
//	checks.go    what must hold while clusters change and fail
//	deploy.go    the manifests that we publish, at a real API server
//	rollout.go   our Deployments: made, rolled under load, cut off
//	kubelet.go   what a node does for their pods; container.go, logs.go
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"ztm/scripts/netns"
	"ztm/scripts/process"
)

// timeout is how long anything may take.
const timeout = 2 * time.Minute

func main() {
	test := flag.Bool("test", false, "then change and break the clusters, and check what must hold")
	only := flag.String("only", "", "with --test: of the checks, make those whose sentence has this text")
	keep := flag.Bool("keep", false, "leave all running until it is interrupted")
	binary := flag.String("ztm", "", "the program; it is built where none is named")
	programs := flag.String("programs", "", "where the programs of Kubernetes are, or are put (default: a directory of the user's cache)")
	serve := flag.String("serve", "", "be a web server at an address, whose pages are the rest of the command line")
	inside := flag.String("contain", "", "run the rest of the command line as a container with a directory as its root")
	root := flag.String("enter", "", "become the rest of the command line, in a directory as its root")
	kubelet := flag.String("logs", "", "be the kubelet at an address that tells the logs of pods: the rest of the command line is how their names begin")
	flag.Parse()
	var err error
	switch {
	case *serve != "":
		err = page(*serve, flag.Arg(0))
	case *inside != "":
		err = contain(*inside, flag.Args())
	case *root != "":
		err = enter(*root, flag.Args())
	case *kubelet != "":
		err = serveLogs(*kubelet, flag.Arg(0))
	default: // a signal ends the others at once
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = run(ctx, *binary, *programs, *only, *test, *keep)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "clusters:", err)
		os.Exit(1)
	}
}

// page serves one page.
func page(address, text string) error {
	fmt.Println("serves", text, "at", address)
	server := http.Server{Addr: address, ReadHeaderTimeout: timeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, text) })}
	return server.ListenAndServe()
}

func run(ctx context.Context, binary, programs, only string, test, keep bool) (err error) {
	dir, err := os.MkdirTemp("", "ztm-clusters-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l := &lab{ctx: ctx, dir: dir, only: only, group: process.Group{Dir: dir}, net: netns.New("zk", "lab")}
	if l.self, err = os.Executable(); err != nil {
		return err
	}
	if l.programs, err = build(ctx, programs); err != nil {
		return err
	}
	if l.ztm, err = process.Ztm(ctx, binary, dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.end()) }()
	began := time.Now()
	steps := []func() error{l.world, l.start, l.mesh, l.demo}
	if test {
		steps = append(steps, l.checks, l.deploy, l.rollouts)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return errors.Join(err, l.logs())
		}
	}
	fmt.Printf("\nall of it took %v\n", time.Since(began).Round(time.Second))
	if keep {
		fmt.Println("it runs in", dir, "until it is interrupted; places:", l.net.Prefix+"-...")
		<-ctx.Done()
	}
	return nil
}

// lab is all that runs.
type lab struct {
	ctx      context.Context
	dir      string
	self     string // this program
	only     string // a text in the names of the checks to make
	ztm      string
	programs string // a directory
	net      *netns.Net
	group    process.Group
	clusters []*cluster
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

// end stops all and removes what is outside of the lab's directory.
func (l *lab) end() error {
	l.group.End(10 * time.Second)
	return l.net.End()
}

// logs returns the ends of all logs.
func (l *lab) logs() error {
	const most = 2000 // bytes of each
	files, err := filepath.Glob(l.path("*.log"))
	errs := []error{err}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil {
			err = fmt.Errorf("%s:\n%s", filepath.Base(f), b[max(0, len(b)-most):])
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
