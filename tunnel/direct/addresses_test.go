package direct

import (
	"errors"
	"net"
	"testing"
)

func TestTheBridgeOfARouterIsANetworkAndThatOfContainersIsNot(t *testing.T) {
	for name, want := range map[string]bool{
		"eth0": false, "br-lan": false, "br-guest": false, "br0": false, "vEthernet (External)": false,
		"br-0a1b2c3d4e5f": true, "docker0": true, "veth1a2b3c4": true, "lxdbr0": true, "vEthernet (WSL (Hyper-V firewall))": true, "vEthernet (Default Switch)": true, "wg0": true,
	} {
		if got := isVirtual(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAProgramThatMayNotAskForInterfacesKnowsItsAddress(t *testing.T) {
	all, err := Addresses()
	if err != nil {
		t.Fatal(err)
	}
	known, err := addresses(func() ([]net.Interface, error) { return nil, errors.New("permission denied") })
	if err != nil {
		t.Fatal(err)
	}
	if len(known.Own) == 0 {
		t.Skip("this machine has no way to the internet")
	}
	for _, p := range known.Own {
		if !all.Has(p.Addr()) && longest(all.Virtual, p.Addr()) < 0 || !p.IsSingleIP() {
			t.Errorf("%v is none of %v", p, all)
		}
	}
}
