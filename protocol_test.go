package main

import (
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
)

func protocolPage(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestThePageOfTheWireNamesWhatIsOnIt(t *testing.T) {
	page := protocolPage(t)
	for _, name := range []string{
		tunnel.ControlProto, tunnel.RelayProto, identity.JoinProto, seal.SessionProto, seal.OffloadProto,
		tunnel.PathEndpoints, tunnel.PathEvents, tunnel.PathTrust, tunnel.PathHub, tunnel.PathSign, tunnel.PathRenew,
		seal.PathApps, seal.PathAPI, seal.PathPing, seal.PathTrust, seal.PathRenew,
		strings.ToLower(seal.FieldFlow), strings.ToLower(seal.FieldTrust),
		string(tunnel.EventReady), string(tunnel.EventDialBack), string(tunnel.EventTrust), string(tunnel.EventSign), string(tunnel.EventPing),
		string(tunnel.EventHubs), string(tunnel.EventMove), tunnel.PathHubs, "`" + tunnel.FieldAttach + "`", "`" + tunnel.FieldIdle + "`",
		tunnel.HubProto, tunnel.HopProto, tunnel.PathLinkEvents, tunnel.PathLinkTrust, tunnel.PathLinkEndpoints, tunnel.PathLinkSign,
	} {
		if !strings.Contains(page, name) {
			t.Errorf("docs/protocol.md does not have %s", name)
		}
	}
	for _, proto := range []string{tunnel.ControlProto, tunnel.RelayProto, identity.JoinProto, seal.SessionProto, seal.OffloadProto} {
		if !regexp.MustCompile(`^ztm-[a-z]+/[0-9]+$`).MatchString(proto) {
			t.Errorf("%s has no version", proto)
		}
	}
}

func TestThePageOfTheWireHasTheStatusOfEveryCode(t *testing.T) {
	rows := regexp.MustCompile("(?m)^\\| ((?:`[a-z_]+`(?:, )?)+) \\| ([0-9]{3}) \\|").FindAllStringSubmatch(protocolPage(t), -1)
	listed := map[answer.Code]bool{}
	for _, row := range rows {
		for name := range strings.SplitSeq(row[1], ", ") {
			code := answer.Code(strings.Trim(name, "`"))
			listed[code] = true
			if strconv.Itoa(code.Status()) != row[2] {
				t.Errorf("%s has the status %d, and %s on the page", code, code.Status(), row[2])
			}
		}
	}
	for _, code := range []answer.Code{
		answer.BadRequest, answer.Denied, answer.NotFound, answer.Conflict, answer.Limit, answer.Internal, answer.Refused,
		answer.Unreachable, answer.DNS, answer.Prohibited, answer.Unavailable, answer.Timeout, answer.Broken,
	} {
		if !listed[code] {
			t.Errorf("docs/protocol.md does not list %s", code)
		}
	}
}

func TestThePageOfTheWireHasEveryMember(t *testing.T) {
	page := protocolPage(t)
	for _, v := range []any{
		tunnel.HubStatus{}, tunnel.Entry{}, tunnel.Page{}, tunnel.Event{}, tunnel.SignRequest{}, tunnel.JoinRequest{}, tunnel.SignAnswer{}, answer.Error{}, tunnel.Hubs{}, tunnel.HubEntry{}, identity.HubRecord{}, identity.Attach{},
		tunnel.LinkEvent{}, tunnel.Wanted{}, tunnel.Records{},
	} {
		typ := reflect.TypeOf(v)
		for i := range typ.NumField() {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if name == "" || !strings.Contains(page, `"`+name+`"`) {
				t.Errorf("docs/protocol.md does not have %q of %s", name, typ)
			}
		}
	}
}
