//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// source is the module that has the programs, beside this one.
const source = "scripts/clusters/programs"

// built are the programs that are built from their modules, and where each is, below source.
var built = map[string]string{
	"kube-apiserver": "kube-apiserver", "kube-controller-manager": "kube-controller-manager", "kube-proxy": "kube-proxy", "coredns": "coredns", "chart": "chart",
	oldKubectl: "old", // a module of its own
}

// oldKubectl is the oldest kubectl that has to work through the mesh.
const oldKubectl = "kubectl-1.20"

// build returns the directory of the programs, and builds those that are missing. Where dir is "",
// it is a directory of the user's cache that is named by the versions.
func build(ctx context.Context, dir string) (string, error) {
	for _, p := range []string{"etcd", "kubectl", "ip", "nft", "curl"} {
		if _, err := exec.LookPath(p); err != nil {
			return "", fmt.Errorf("%s is needed: %w", p, err)
		}
	}
	versions, err := os.ReadFile(filepath.Join(source, "go.mod"))
	old, oldErr := os.ReadFile(filepath.Join(source, "old/go.mod"))
	if err := errors.Join(err, oldErr); err != nil {
		return "", fmt.Errorf("run it as scripts/clusters/run: %w", err)
	}
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		sum := sha256.Sum256(append(versions, old...))
		dir = filepath.Join(cache, "ztm-clusters", hex.EncodeToString(sum[:8]))
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	for _, name := range slices.Sorted(maps.Keys(built)) {
		if err := buildOne(ctx, dir, name); err != nil {
			return "", err
		}
	}
	return dir, nil
}

func buildOne(ctx context.Context, dir, name string) error {
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	began := time.Now()
	fmt.Println("building", name)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path+".new", ".")
	cmd.Dir, cmd.Env = filepath.Join(source, built[name]), append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-gcflags=all=-dwarf=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	fmt.Println("built", name, "in", time.Since(began).Round(time.Second))
	return os.Rename(path+".new", path)
}
