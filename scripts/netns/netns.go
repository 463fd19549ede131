// Package netns makes little networks on this machine, of namespaces, cables and rules. It needs
// Linux, root, ip and nft.
package netns

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
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

// End removes the namespaces. Links and rules go with them.
func (n *Net) End() error {
	var errs []error
	for _, line := range n.open {
		errs = append(errs, line.Close())
	}
	for _, name := range n.names {
		if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("ip netns del %s: %v: %s", name, err, out))
		}
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
