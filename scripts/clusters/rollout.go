//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ztm/scripts/process"
)

// rollouts run what we publish as it is published, as Deployments of a real controller: they are made,
// rolled under load, and lose a node.
func (l *lab) rollouts() error {
	k := newKubelet(l.clusters[1])
	k.c.agent.End(10 * time.Second) // what it did is up to the Deployment
	return l.each([]check{
		{"the cluster holds that the agent writes its own slices alone", k.guard},
		{"agents with a void token say so, and join once the Secret has another", k.heals},
		{"agents are rolled under load", k.rollsAgents},
		{"a replica whose node is cut off leaves the imports", k.cutOff},
		{"the pods that lead to the API server are rolled under kubectl", k.rollsAccess},
		{"kubectl through the mesh: watch, apply, logs", k.people},
		{"the hub as a Deployment is joined through its Service, and made anew", k.hub},
	})
}

const asAgent = "--as=system:serviceaccount:ztm:ztm-agent"

// guard applies the policy, and tries to write a slice of somebody else as the agent.
func (k *kubelet) guard() (string, error) {
	if _, err := k.c.kubectl("", "apply", "-k", "deploy/kubernetes/guard"); err != nil {
		return "", err
	}
	const foreign = `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"foreign","namespace":"shop","labels":{"endpointslice.kubernetes.io/managed-by":"somebody"}},"addressType":"IPv4","endpoints":[]}`
	if err := k.c.apply(foreign); err != nil {
		return "", err
	}
	err := process.Until(k.c.lab.ctx, "a foreign slice is kept from the agent", timeout, func() error {
		_, err := k.c.kubectl("", "delete", "--raw", "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/foreign?dryRun=All", asAgent)
		return refusedFor(err, "changes and deletes EndpointSlices that it manages")
	})
	if err != nil {
		return "", err
	}
	_, err = k.c.kubectl(strings.Replace(foreign, `"foreign"`, `"another"`, 1), "create", "--raw", "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices", "-f", "-", asAgent)
	return "", refusedFor(err, "writes EndpointSlices that it manages")
}

// refusedFor returns nil if a command was refused for a reason.
func refusedFor(err error, why string) error {
	if err == nil || !strings.Contains(err.Error(), why) {
		return errors.Join(errors.New("it was not refused for that it "+why), err)
	}
	return nil
}

// secret puts a permit into the Secret of the manifests.
func (k *kubelet) secret(permit string) error {
	text, err := k.c.kubectl("", "create", "secret", "generic", "ztm-token", "-n", "ztm", "--from-file=token="+permit, "--dry-run=client", "-o", "yaml")
	if err != nil {
		return err
	}
	return k.c.apply(text)
}

// good is the permit with which all of the user kube join.
func (k *kubelet) good() string { return k.c.lab.path("kube.json") }

// heals makes the agents with a token that was used up.
func (k *kubelet) heals() (string, error) {
	l, used := k.c.lab, k.c.lab.path("used.json")
	if _, err := l.until("net", l.command("root", "invite", "kube", "--uses", "1", "--expires", "1h", "--permit", used)...); err != nil {
		return "", err
	}
	if err := l.agent("net", "spender", used); err != nil {
		return "", err
	}
	if err := k.secret(used); err != nil {
		return "", err
	}
	if _, err := k.c.kubectl("", "apply", "-k", "deploy/kubernetes/agent"); err != nil {
		return "", err
	}
	err := k.until("two agents say why they are not ready", func() error {
		pods := k.of("ztm-agent")
		if len(pods) != 2 {
			return fmt.Errorf("%d pods", len(pods))
		}
		for _, p := range pods {
			if err := p.asks(k); err == nil || !strings.Contains(err.Error(), "cannot join mesh demo") {
				return fmt.Errorf("%s: %w", p.pod.Metadata.Name, errors.Join(err, errors.New("it does not say why")))
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	if err := k.secret(k.good()); err != nil {
		return "", err
	}
	began := time.Now()
	if err := k.until("the agents are ready", func() error { return k.rolled("ztm-agent") }); err != nil {
		return "", err
	}
	for _, p := range k.of("ztm-agent") {
		if p.starts != 1 {
			return "", fmt.Errorf("%s was started %d times", p.pod.Metadata.Name, p.starts)
		}
	}
	return "ready " + time.Since(began).Round(time.Second).String() + " after the new Secret", nil
}

// roll has a Deployment make all of its pods anew, and waits until that is done and the old ones are gone.
func (k *kubelet) roll(deployment string) error {
	before := k.of(deployment)
	if _, err := k.c.kubectl("", "rollout", "restart", "deployment/"+deployment, "-n", "ztm"); err != nil {
		return err
	}
	return k.until(deployment+" is rolled", func() error {
		if err := k.rolled(deployment); err != nil {
			return err
		}
		for _, old := range before {
			if old.process.Running() {
				return fmt.Errorf("%s runs still", old.pod.Metadata.Name)
			}
		}
		return nil
	})
}

// rollsAgents rolls them while the laptop asks through their tunnel, and a pod through their import.
func (k *kubelet) rollsAgents() (string, error) {
	client := k.c.name + "-client"
	if _, err := k.c.lab.prints("The shop of cluster a", client, curl("http://theirs/")...); err != nil {
		return "", err
	}
	if err := k.c.answers(); err != nil {
		return "", err
	}
	exposed, err := k.c.lab.load("exposed", "laptop", curl(k.c.url()))
	if err != nil {
		return "", err
	}
	imported, err := k.c.lab.load("imported", client, curl("http://theirs/"))
	if err != nil {
		return "", err
	}
	err = k.roll("ztm-agent")
	one, err1 := exposed.end()
	two, err2 := imported.end()
	return "exposed: " + one + "; imported: " + two, errors.Join(err, err1, err2)
}

// importers returns the UIDs of the pods that import, as the slices of the namespace shop have them.
func (k *kubelet) importers() (string, error) {
	return k.c.kubectl("", "get", "endpointslices", "-n", "shop", "-l", "endpointslice.kubernetes.io/managed-by=ztm.dev", "-o", "jsonpath={.items[*].endpoints[*].targetRef.uid}")
}

// cutOff takes the cable of a pod away. That its pod is not ready is then said by its probe, and in a
// cluster by the controller of nodes.
func (k *kubelet) cutOff() (string, error) {
	lost := k.of("ztm-agent")[0]
	leads := func(want bool) func() error {
		return func() error {
			uids, err := k.importers()
			if err == nil && strings.Contains(uids, lost.pod.Metadata.UID) != want {
				err = fmt.Errorf("the slices lead to %s", uids)
			}
			return err
		}
	}
	if err := k.until("both replicas import", leads(true)); err != nil {
		return "", err
	}
	cable := func(state string) error {
		k.c.lab.net.IP(k.c.name, "link set dev "+lost.place()+" "+state)
		return k.c.lab.net.Err()
	}
	if err := cable("down"); err != nil {
		return "", err
	}
	if err := k.until("it is not ready", func() error { return notReady(lost) }); err != nil {
		return "", err
	}
	began := time.Now()
	if err := k.until("the slices of the replica that is cut off are gone", leads(false)); err != nil {
		return "", err
	}
	took := time.Since(began)
	if _, err := k.c.lab.prints("The shop of cluster a", k.c.name+"-client", curl("http://theirs/")...); err != nil {
		return "", err
	}
	// A device that went down has lost its route.
	if err := cable("up"); err != nil {
		return "", err
	}
	k.c.lab.net.IP(k.c.name, "route replace "+lost.ip+"/32 dev "+lost.place())
	return "gone after " + took.Round(time.Second).String(), errors.Join(k.c.lab.net.Err(), k.until("it is back", leads(true)))
}

func notReady(c *container) error {
	if c.ready {
		return errors.New("it is ready still")
	}
	return nil
}

// rollsAccess rolls the pods that lead to the API server while kubectl asks through them.
func (k *kubelet) rollsAccess() (string, error) {
	l := k.c.lab
	if err := k.secret(k.good()); err != nil {
		return "", err
	}
	if _, err := k.c.kubectl("", "apply", "-k", "deploy/kubernetes/access"); err != nil {
		return "", err
	}
	rules, err := l.until("laptop", l.command("laptop", "kube", "rbac")...)
	if err != nil {
		return "", err
	}
	if err := k.c.apply(rules); err != nil {
		return "", err
	}
	if _, err := k.c.kubectl("", "create", "clusterrolebinding", "kube-edit", "--clusterrole=edit", "--user=ztm:kube"); err != nil {
		return "", err
	}
	if err := k.until("the pods are ready", func() error { return k.rolled("ztm-access") }); err != nil {
		return "", err
	}
	if _, err := l.until("laptop", l.command("laptop", "kube", "login", "office", "--kubeconfig", k.c.path("office.json"))...); err != nil {
		return "", err
	}
	load, err := l.load("kubectl", "laptop", k.kubectl("-n", "stock", "get", "pods", "-o", "name"))
	if err != nil {
		return "", err
	}
	err = k.roll("ztm-access")
	said, lerr := load.end()
	return said, errors.Join(err, lerr)
}

// kubectl is a command of the laptop, through the mesh.
func (k *kubelet) kubectl(words ...string) []string {
	return append([]string{"kubectl", "--kubeconfig", k.c.path("office.json"), "--cache-dir", k.c.path("laptop")}, words...)
}

// people use kubectl as people do, and an old one.
func (k *kubelet) people() (string, error) {
	for _, program := range []string{"kubectl", filepath.Join(k.c.lab.programs, oldKubectl)} {
		use := func(words ...string) []string { return append([]string{program}, k.kubectl(words...)[1:]...) }
		if err := k.uses(filepath.Base(program), use); err != nil {
			return "", fmt.Errorf("%s: %w", program, err)
		}
	}
	return "kubectl and " + oldKubectl, nil
}

// uses looks at what is there, applies something that a watch tells, and reads a log.
func (k *kubelet) uses(name string, kubectl func(words ...string) []string) error {
	l := k.c.lab
	if _, err := l.prints("web-1", "laptop", kubectl("-n", "stock", "get", "pods")...); err != nil {
		return err
	}
	words := kubectl("-n", "stock", "get", "configmaps", "--watch-only")
	watch, err := l.run("laptop", "watch-"+name, words[0], words[1:]...)
	if err != nil {
		return err
	}
	manifest := l.path(name + ".json")
	n := 0 // what is applied before the watch has begun is not seen by it
	err = process.Until(l.ctx, "the watch tells what was applied", timeout, func() error {
		n++
		text := fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"from-%s","namespace":"stock"},"data":{"n":"%d"}}`, name, n)
		if err := os.WriteFile(manifest, []byte(text), 0o600); err != nil {
			return err
		}
		if out, err := l.net.Output("laptop", kubectl("apply", "-f", manifest)...); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return watch.Says("from-" + name)
	})
	watch.End(10 * time.Second)
	if err != nil {
		return err
	}
	_, err = l.prints("serves", "laptop", kubectl("-n", "stock", "logs", "web-1")...)
	return err
}

// hub runs the hub of our manifests, with a name of the cluster, and an agent in a pod that joins there.
func (k *kubelet) hub() (string, error) {
	l, place := k.c.lab, k.c.name+"-client"
	text, err := k.c.kubectl("", "kustomize", "deploy/kubernetes/hub")
	if err != nil {
		return "", err
	}
	const published = "hub.example.com:8888"
	if !strings.Contains(text, published) {
		return "", errors.New("the manifest names another hub than " + published)
	}
	if err := k.c.apply(strings.ReplaceAll(text, published, "ztm-hub.ztm.svc.cluster.local:8888")); err != nil {
		return "", err
	}
	if err := k.until("the hub is ready", func() error { return k.rolled("ztm-hub") }); err != nil {
		return "", err
	}
	pod := k.of("ztm-hub")[0]
	if _, err := l.run(place, "inner", l.ztm, "run", "agent", "--data", l.path("agent-inner")); err != nil {
		return "", err
	}
	permit := filepath.Join(pod.root, data, "root.json")
	if _, err := l.until(place, l.command("inner", "join", "inner", "--as", "inner", "--permit", permit)...); err != nil {
		return "", err
	}
	connected := func() error {
		out, err := l.net.Output(place, l.command("inner", "get", "mesh", "-o", "json")...)
		return matches(out, `"connected"`, err)
	}
	if err := k.until("the agent is connected", connected); err != nil {
		return "", err
	}
	if _, err := k.c.kubectl("", "delete", "pod", pod.pod.Metadata.Name, "-n", "ztm", "--wait=false"); err != nil {
		return "", err
	}
	began := time.Now()
	err = k.until("another hub has the volume, and the agent is connected", func() error {
		if pod.process.Running() || len(k.of("ztm-hub")) != 1 {
			return errors.New("the old one runs, or no other")
		}
		return errors.Join(k.rolled("ztm-hub"), connected())
	})
	return "joined, and connected " + time.Since(began).Round(time.Second/10).String() + " after its pod was deleted", err
}

// requests are a load: a command that is run again and again.
type requests struct {
	l       *lab
	process *process.Process
	stop    string // a file that ends it
}

// load runs a command at a place, without a pause, until end. The first failure ends it, too.
func (l *lab) load(name, place string, words []string) (*requests, error) {
	stop := l.path("stop-" + name)
	loop := `stop=$1; shift; good=0; while [ ! -e "$stop" ]; do "$@" >/dev/null || exit 1; good=$((good+1)); done; echo $good requests, none failed`
	p, err := l.run(place, "load-"+name, "sh", append([]string{"-c", loop, "sh", stop}, words...)...)
	return &requests{l, p, stop}, err
}

// end returns what the load says of itself.
func (r *requests) end() (string, error) {
	if err := os.WriteFile(r.stop, nil, 0o600); err != nil {
		return "", err
	}
	err := process.Until(r.l.ctx, "the end of the load", timeout, func() error {
		if r.process.Running() {
			return errors.New("it runs")
		}
		return nil
	})
	out, _ := r.process.Output() // a text for people
	return strings.TrimSpace(string(out)), errors.Join(err, r.process.Says("none failed"))
}
