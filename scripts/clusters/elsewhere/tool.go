package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// tool makes clusters in Docker.
type tool struct {
	name string
	// create makes a cluster on our network that has our image, and its kubeconfig.
	create func(d *demo, cluster string) error
	remove func(cluster string) []string
}

// choose returns the tool that is installed.
func choose() (tool, error) {
	for _, p := range []string{"docker", "kubectl"} {
		if _, err := exec.LookPath(p); err != nil {
			return tool{}, fmt.Errorf("%s is needed: %w", p, err)
		}
	}
	for _, t := range []tool{k3d, kind} {
		if _, err := exec.LookPath(t.name); err == nil {
			return t, nil
		}
	}
	return tool{}, errors.New("k3d or kind is needed")
}

var k3d = tool{
	name: "k3d",
	create: func(d *demo, c string) error {
		if err := d.each([]string{"k3d", "cluster", "create", name + "-" + c, "--network", name, "--wait", "--kubeconfig-update-default=false"}); err != nil {
			return err
		}
		config, err := d.do("k3d", "kubeconfig", "get", name+"-"+c)
		if err != nil {
			return err
		}
		if err := os.WriteFile(d.kubeconfig(c), []byte(config), 0o600); err != nil {
			return err
		}
		return d.each([]string{"k3d", "image", "import", image, "-c", name + "-" + c})
	},
	remove: func(c string) []string { return []string{"k3d", "cluster", "delete", name + "-" + c} },
}

var kind = tool{
	name: "kind",
	create: func(d *demo, c string) error {
		// It knows no option for the network.
		_, err := d.with([]string{"KIND_EXPERIMENTAL_DOCKER_NETWORK=" + name}, nil, "kind", "create", "cluster", "--name", name+"-"+c, "--wait", "5m", "--kubeconfig", d.kubeconfig(c))
		if err != nil {
			return err
		}
		return d.each([]string{"kind", "load", "docker-image", image, "--name", name + "-" + c})
	},
	remove: func(c string) []string { return []string{"kind", "delete", "cluster", "--name", name + "-" + c} },
}
