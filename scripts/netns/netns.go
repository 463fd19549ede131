// Package netns makes little networks on this machine, of namespaces, cables and rules. It needs
// Linux, root, ip and nft.
package netns

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Net is a network. A place of it is a namespace with the name PREFIX-PLACE. Each step is done unless
// one before it failed; Err returns why. It is for one goroutine.
type Net struct {
	Prefix string
	names  []string
	open   []io.Closer // lines
	err    error
}

// New returns a network of this process, which names it. kind says what makes such networks: what runs
// of it that are gone have left behind is removed first.
func New(kind, name string) *Net {
	return &Net{Prefix: fmt.Sprintf("%s%d-%s", kind, os.Getpid(), name), err: sweep(kind)}
}

// Where the system has the namespaces that have a name, and files of /etc that programs in them see.
const (
	namespaces = "/run/netns"
	etc        = "/etc/netns"
)

// sweep removes the namespaces of a kind whose process is gone, with the programs in them.
func sweep(kind string) error {
	left, err := filepath.Glob(filepath.Join(namespaces, kind+"[0-9]*-*"))
	if err != nil {
		return err
	}
	for _, path := range left {
		name, pid := filepath.Base(path), 0
		fmt.Sscanf(strings.TrimPrefix(name, kind), "%d-", &pid)
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); pid == 0 || !os.IsNotExist(err) {
			continue
		}
		err := errors.Join(endPrograms(name), remove(name))
		if _, is := os.Stat(path); err != nil && !os.IsNotExist(is) { // nobody else was faster
			return err
		}
	}
	return nil
}

// endPrograms kills what runs in a namespace.
func endPrograms(name string) error {
	out, err := exec.Command("ip", "netns", "pids", name).Output()
	if err != nil {
		return fmt.Errorf("ip netns pids %s: %w", name, err)
	}
	for _, word := range strings.Fields(string(out)) {
		pid := 0
		fmt.Sscan(word, &pid)
		if p, err := os.FindProcess(pid); err == nil && pid > 1 {
			p.Kill() // it may have ended
		}
	}
	return nil
}

// remove removes a namespace. Links and rules go with it.
func remove(name string) error {
	err := os.RemoveAll(filepath.Join(etc, name))
	if out, failed := exec.Command("ip", "netns", "del", name).CombinedOutput(); failed != nil {
		err = errors.Join(err, fmt.Errorf("ip netns del %s: %v: %s", name, failed, out))
	}
	return err
}

// Err returns why a step failed.
func (n *Net) Err() error { return n.err }

// Name returns the name of a place's namespace.
func (n *Net) Name(place string) string { return n.Prefix + "-" + place }

// Add makes a place.
func (n *Net) Add(place string) {
	if n.Run("ip", "netns", "add", n.Name(place)); n.err == nil {
		n.names = append(n.names, n.Name(place))
	}
	n.IP(place, "link set dev lo up")
}

// Resolv has programs that [Net.In] runs at a place see a resolv.conf.
func (n *Net) Resolv(place, text string) {
	if n.err != nil {
		return
	}
	dir := filepath.Join(etc, n.Name(place))
	if n.err = os.MkdirAll(dir, 0o755); n.err == nil {
		n.err = os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte(text), 0o644)
	}
}

// End removes the namespaces.
func (n *Net) End() error {
	var errs []error
	for _, line := range n.open {
		errs = append(errs, line.Close())
	}
	for _, name := range n.names {
		errs = append(errs, remove(name))
	}
	return errors.Join(errs...)
}

// Link connects two places with a cable. At either end it is called after the place at the other.
func (n *Net) Link(one, other, oneAddress, otherAddress string) {
	n.Run("ip", "link", "add", "name", other, "netns", n.Name(one), "type", "veth", "peer", "name", one, "netns", n.Name(other))
	n.up(one, other, oneAddress, otherAddress)
}

// up gives the ends of a cable their addresses.
func (n *Net) up(one, other, oneAddress, otherAddress string) {
	n.IP(one, "addr add "+oneAddress+" dev "+other)
	n.IP(other, "addr add "+otherAddress+" dev "+one)
	n.IP(one, "link set dev "+other+" up")
	n.IP(other, "link set dev "+one+" up")
}

// Forward makes a place a router.
func (n *Net) Forward(place string) {
	n.Run(append(n.In(place), "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward && { [ ! -e /proc/sys/net/ipv6 ] || echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; }")...)
}

// In is what makes a command run at a place.
func (n *Net) In(place string) []string { return []string{"ip", "netns", "exec", n.Name(place)} }

// IP runs the command ip for a place.
func (n *Net) IP(place, words string) {
	n.Run(append([]string{"ip", "-n", n.Name(place)}, strings.Fields(words)...)...)
}

// Nft gives a place rules of nftables.
func (n *Net) Nft(place, rules string) { n.Run(append(n.In(place), "nft", rules)...) }

// Run runs a command as a step.
func (n *Net) Run(words ...string) {
	if n.err != nil {
		return
	}
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		n.err = fmt.Errorf("%s: %v: %s", strings.Join(words, " "), err, out)
	}
}

// Output returns what a program at a place prints.
func (n *Net) Output(place string, words ...string) (string, error) {
	out, err := exec.Command(n.In(place)[0], append(n.In(place)[1:], words...)...).CombinedOutput()
	return string(out), err
}
