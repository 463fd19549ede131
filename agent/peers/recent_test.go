package peers

import (
	"fmt"
	"strings"
	"testing"

	"ztm/agent/limits"
	"ztm/tunnel/identity"
)

const testFlowIDs = 64

func TestFlowIDsOfOnePeerDoNotDisplaceThoseOfAnother(t *testing.T) {
	r := recent{most: testFlowIDs}
	r.add("bob", "mine")
	for i := range 10 * testFlowIDs {
		r.add("eve", fmt.Sprint(i))
	}
	if !r.has("bob", "mine") {
		t.Error("the flows of another peer made a flow ID be forgotten")
	}
	if r.has("eve", "mine") {
		t.Error("a flow ID counts for another peer")
	}
}

func TestRecentFlowsAreBounded(t *testing.T) {
	r := recent{most: testFlowIDs}
	for i := range testFlowIDs + 1 {
		r.add("bob", fmt.Sprint(i))
	}
	if r.has("bob", "0") || !r.has("bob", "1") || !r.has("bob", fmt.Sprint(testFlowIDs)) {
		t.Error("not the last flow IDs are remembered")
	}
	for i := range limits.FlowPeers {
		r.add(identity.ID(fmt.Sprint("peer", i)), "x")
		r.add("bob", "again") // who goes on
	}
	if len(r.peers) != limits.FlowPeers || !r.has("bob", "again") || r.has("peer0", "x") || !r.has("peer1", "x") {
		t.Errorf("of %d peers, not those that opened flows last are remembered", len(r.peers))
	}
	r.add("bob", "")
	r.add("bob", strings.Repeat("x", maxFlowID+1))
	if r.has("bob", "") || r.has("bob", strings.Repeat("x", maxFlowID+1)) {
		t.Error("what is no flow ID is remembered")
	}
}
