//go:build linux

package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"ztm/scripts/process"
)

// kubelet runs the pods that the controllers of a cluster make for our Deployments. It is a scheduler,
// a kubelet and a runtime of containers, as far as these pods need one:
//
//	a pod          bind it to the node, and start its container    start
//	its container  a process with a root of its own, see container.go
//	its status     what its probe says                             probe
//	its Secrets    files, which follow the Secret                  secrets
//	its end        SIGTERM, then the pod is taken away             stop
//
// It works in sync alone, which one goroutine calls until what it waits for is so.
type kubelet struct {
	c    *cluster
	pods map[string]*container // by UID
	next int                   // number of the next pod's address
}

// container is a pod at work.
type container struct {
	pod     podObject
	ip      string
	root    string // its directory
	process *process.Process
	ready   bool // as the API server knows it
	ending  bool // it was told to end
	starts  int
}

// podObject is a Pod as far as it is looked at here.
type podObject struct {
	Metadata struct {
		Name, Namespace, UID string
		Deleted              string                  `json:"deletionTimestamp"`
		Owners               []struct{ Kind string } `json:"ownerReferences"`
	}
	Spec struct {
		NodeName       string
		ServiceAccount string `json:"serviceAccountName"`
		Mounts         bool   `json:"automountServiceAccountToken"`
		Containers     []struct {
			Name string
			Args []string
			Env  []struct {
				Name, Value string
				From        struct {
					Field struct {
						Path string `json:"fieldPath"`
					} `json:"fieldRef"`
				} `json:"valueFrom"`
			}
			Probe struct {
				HTTP *struct{ Path string } `json:"httpGet"`
			} `json:"readinessProbe"`
		}
		Volumes []struct {
			Name   string
			Secret *struct{ SecretName string }
			Claim  *struct{ ClaimName string } `json:"persistentVolumeClaim"`
		}
	}
}

func newKubelet(c *cluster) *kubelet { return &kubelet{c: c, pods: map[string]*container{}, next: 100} }

// until syncs until something is so.
func (k *kubelet) until(what string, is func() error) error {
	return process.Until(k.c.lab.ctx, what, 2*timeout, func() error { return errors.Join(k.sync(), is()) })
}

// sync does what is to be done now for each pod of the namespace ztm that a controller has made.
func (k *kubelet) sync() error {
	out, err := k.c.kubectl("", "get", "pods", "-n", "ztm", "-o", "json")
	if err != nil {
		return err
	}
	var list struct{ Items []podObject }
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return err
	}
	for _, p := range list.Items {
		if len(p.Metadata.Owners) == 0 {
			continue // one that the lab has made itself
		}
		if err := k.syncPod(p); err != nil {
			return fmt.Errorf("pod %s: %w", p.Metadata.Name, err)
		}
	}
	return nil
}

func (k *kubelet) syncPod(p podObject) error {
	here := k.pods[p.Metadata.UID]
	switch {
	case here == nil && p.Metadata.Deleted != "":
		return k.forget(p)
	case here == nil:
		return k.start(p)
	case p.Metadata.Deleted != "" && !here.process.Running():
		return k.forget(p)
	case p.Metadata.Deleted != "" && !here.ending:
		here.ending = true
		return here.process.Signal(syscall.SIGTERM)
	case p.Metadata.Deleted != "":
		return nil
	case !here.process.Running():
		return k.run(here)
	}
	if err := k.secrets(here); err != nil {
		return err
	}
	return k.probe(here)
}

// forget puts the volume of a pod back, and tells the API server that nothing of the pod runs.
func (k *kubelet) forget(p podObject) error {
	if here, volume := k.pods[p.Metadata.UID], k.claimed(p); here != nil && volume != "" {
		if err := os.Rename(filepath.Join(here.root, data), volume); err != nil {
			return err
		}
	}
	delete(k.pods, p.Metadata.UID)
	_, err := k.c.kubectl("", "delete", "pod", p.Metadata.Name, "-n", "ztm", "--force", "--grace-period=0", "--wait=false", "--ignore-not-found")
	return err
}

// start binds a pod to the node and runs it.
func (k *kubelet) start(p podObject) error {
	if p.Spec.NodeName == "" {
		_, err := k.c.kubectl(fmt.Sprintf(`{"apiVersion":"v1","kind":"Binding","metadata":{"name":%q,"namespace":"ztm"},"target":{"kind":"Node","name":"node-1"}}`, p.Metadata.Name), "create", "-f", "-")
		return err // the next sync sees it bound
	}
	if k.inUse(k.claimed(p)) {
		return nil // until the pod that has the volume is gone
	}
	here := &container{pod: p, ip: fmt.Sprint("10.42.0.", k.next), root: k.c.path("pod-" + p.Metadata.Name)}
	k.next++
	if err := k.c.cable(here.place(), here.ip); err != nil {
		return err
	}
	if err := k.root(here); err != nil {
		return err
	}
	k.pods[p.Metadata.UID] = here
	if err := k.run(here); err != nil {
		return err
	}
	return k.c.setReady("ztm", p.Metadata.Name, here.ip, false)
}

// place is the name of the pod's place, which is part of that of a network device.
func (c *container) place() string { return "p" + filepath.Ext(c.ip)[1:] }

// Where a pod finds the token of its account, and its volume.
const (
	account = "var/run/secrets/kubernetes.io/serviceaccount"
	data    = "var/lib/ztm"
)

// root makes the directory that the container sees: the program, and what is mounted.
func (k *kubelet) root(here *container) error {
	dirs := []string{account, "etc/ztm", "proc", "tmp", data}
	for _, d := range dirs {
		if err := os.MkdirAll(filepath.Join(here.root, d), 0o755); err != nil {
			return err
		}
	}
	for _, d := range []string{"tmp", data} {
		if err := os.Chmod(filepath.Join(here.root, d), 0o777); err != nil {
			return err
		}
	}
	if err := os.Link(k.c.lab.ztm, filepath.Join(here.root, "ztm")); err != nil {
		return err
	}
	resolv := "nameserver " + dnsIP + "\nsearch ztm.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
	if err := os.WriteFile(filepath.Join(here.root, "etc/resolv.conf"), []byte(resolv), 0o644); err != nil {
		return err
	}
	if err := k.bring(here); err != nil {
		return err
	}
	if err := k.token(here); err != nil {
		return err
	}
	return k.secrets(here)
}

// claimed is where the pod's volume is while no pod has it; "" if it wants none.
func (k *kubelet) claimed(p podObject) string {
	for _, v := range p.Spec.Volumes {
		if v.Claim != nil {
			return k.c.path("volume-" + v.Claim.ClaimName)
		}
	}
	return ""
}

// inUse reports whether a pod has a volume.
func (k *kubelet) inUse(volume string) bool {
	for _, p := range k.pods {
		if volume != "" && k.claimed(p.pod) == volume {
			return true
		}
	}
	return false
}

// bring gives a pod its volume, which is empty at first.
func (k *kubelet) bring(here *container) error {
	volume := k.claimed(here.pod)
	if volume == "" {
		return nil
	}
	at := filepath.Join(here.root, data)
	if _, err := os.Stat(volume); errors.Is(err, fs.ErrNotExist) {
		return nil // it stays with what it has
	}
	return errors.Join(os.Remove(at), os.Rename(volume, at))
}

// token gives the pod a token of its account.
func (k *kubelet) token(here *container) error {
	token, err := k.c.kubectl("", "create", "token", here.pod.Spec.ServiceAccount, "-n", "ztm", "--duration", "1h",
		"--bound-object-kind", "Pod", "--bound-object-name", here.pod.Metadata.Name, "--bound-object-uid", here.pod.Metadata.UID)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(k.c.path("server/apiserver.crt"))
	if err != nil {
		return err
	}
	dir := filepath.Join(here.root, account)
	return errors.Join(os.WriteFile(filepath.Join(dir, "token"), []byte(strings.TrimSpace(token)), 0o644), os.WriteFile(filepath.Join(dir, "ca.crt"), ca, 0o644))
}

// secrets makes the pod's files what its Secrets say now.
func (k *kubelet) secrets(here *container) error {
	for _, v := range here.pod.Spec.Volumes {
		if v.Secret == nil {
			continue
		}
		out, err := k.c.kubectl("", "get", "secret", v.Secret.SecretName, "-n", "ztm", "-o", "jsonpath={.data.token}")
		if err != nil {
			return err
		}
		b, err := base64.StdEncoding.DecodeString(out)
		if err != nil {
			return err
		}
		path := filepath.Join(here.root, "etc/ztm/token")
		if err := os.WriteFile(path+".new", b, 0o644); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return nil
}

// run runs the container, which has none or whose program has ended.
func (k *kubelet) run(here *container) (err error) {
	here.starts++
	spec := here.pod.Spec.Containers[0]
	environment := []string{"-", "KUBERNETES_SERVICE_HOST=" + apiIP, "KUBERNETES_SERVICE_PORT=443"}
	expand := []string{}
	for _, e := range spec.Env {
		value := e.Value
		switch e.From.Field.Path {
		case "metadata.name":
			value = here.pod.Metadata.Name
		case "metadata.namespace":
			value = here.pod.Metadata.Namespace
		case "metadata.uid":
			value = here.pod.Metadata.UID
		case "status.podIPs":
			value = here.ip
		case "spec.nodeName":
			value = here.pod.Spec.NodeName
		}
		environment = append(environment, e.Name+"="+value)
		expand = append(expand, "$("+e.Name+")", value)
	}
	words := append([]string{k.c.lab.self, "-contain", here.root, "/ztm"}, spec.Args...)
	for i := 4; i < len(words); i++ {
		words[i] = strings.NewReplacer(expand...).Replace(words[i])
	}
	here.process, err = k.c.exec(here.place(), here.pod.Metadata.Name, "env", append(environment, words...)...)
	return err
}

// probe asks the pod whether it is ready, and tells the API server when that has changed.
func (k *kubelet) probe(here *container) error {
	ready := here.asks(k) == nil
	if ready == here.ready {
		return nil
	}
	here.ready = ready
	return k.c.setReady("ztm", here.pod.Metadata.Name, here.ip, ready)
}

// asks returns why the pod is not ready.
func (c *container) asks(k *kubelet) error {
	place := k.c.name + "-" + c.place()
	if probe := c.pod.Spec.Containers[0].Probe.HTTP; probe != nil {
		out, err := k.c.lab.net.Output(place, "curl", "-sS", "--fail-with-body", "--max-time", "5", "http://"+net.JoinHostPort(c.ip, "8081")+probe.Path)
		if err != nil {
			return errors.New(out)
		}
		return nil
	}
	out, err := k.c.lab.net.Output(place, "sh", "-c", "ss -Hltn sport = :8888 | grep -q . || echo nobody listens")
	if err == nil && out != "" {
		err = errors.New(out)
	}
	return err
}

// of returns the pods of a Deployment that are not about to end.
func (k *kubelet) of(deployment string) (list []*container) {
	for _, p := range k.pods {
		if strings.HasPrefix(p.pod.Metadata.Name, deployment+"-") && !p.ending && p.process.Running() {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b *container) int { return strings.Compare(a.pod.Metadata.Name, b.pod.Metadata.Name) })
	return list
}

// rolled returns nil once all pods of a Deployment are what it says now, and ready.
func (k *kubelet) rolled(deployment string) error {
	out, err := k.c.kubectl("", "rollout", "status", "deployment/"+deployment, "-n", "ztm", "--watch=false")
	return matches(out, "successfully rolled out", err)
}
