//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// deploy has an API server check what we publish, and its pods in a namespace with the standard
// restricted.
func (l *lab) deploy() error {
	c := l.clusters[0]
	for _, dir := range []string{"agent", "access", "hub", "import", "network", "conditions", "guard"} {
		out, err := c.kubectl("", "apply", "--dry-run=server", "-o", "json", "-k", filepath.Join("deploy/kubernetes", dir))
		if err != nil {
			return err
		}
		if err := c.accepted("deploy/kubernetes/"+dir, out); err != nil {
			return err
		}
	}
	manifests, err := exec.CommandContext(l.ctx, filepath.Join(l.programs, "chart"), "ztm", "ztm", "deploy/helm/ztm").Output()
	if err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	out, err := c.kubectl(string(manifests), "apply", "--dry-run=server", "-o", "json", "-n", "ztm", "-f", "-")
	if err != nil {
		return err
	}
	if err := c.accepted("deploy/helm/ztm, as Helm renders it", out); err != nil {
		return err
	}
	return c.refused()
}

// object is an object as far as it is looked at here.
type object struct {
	Kind string
	Spec struct {
		Template struct{ Spec json.RawMessage }
	}
	Items []object
}

// accepted has the server check the pods of objects that it has accepted: only then it tells what a
// namespace does not let them be.
func (c *cluster) accepted(what, objects string) error {
	var list object
	if err := json.Unmarshal([]byte(objects), &list); err != nil {
		return err
	}
	if list.Items == nil {
		list.Items = []object{list}
	}
	pods := 0
	for _, o := range list.Items {
		if o.Kind != "Deployment" {
			continue
		}
		if err := c.tryPod(string(o.Spec.Template.Spec)); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		pods++
	}
	fmt.Printf("ok  the API server accepts %s: %d objects, %d pods\n", what, len(list.Items), pods)
	return nil
}

// tryPod asks whether the namespace of the agent lets a pod in.
func (c *cluster) tryPod(spec string) error {
	_, err := c.kubectl(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"try","namespace":"ztm"},"spec":`+spec+`}`, "create", "--dry-run=server", "-f", "-")
	return err
}

// refused shows that the server looks at pods at all.
func (c *cluster) refused() error {
	err := c.tryPod(`{"hostNetwork":true,"containers":[{"name":"main","image":"none"}]}`)
	if err == nil || !strings.Contains(err.Error(), "violates PodSecurity") {
		return errors.Join(errors.New("a pod with the network of its node is let in"), err)
	}
	return nil
}
