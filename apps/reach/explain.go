package reach

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"syscall"

	"ztm/tunnel/answer"
)

// Explain says what a failure to connect to the target means, in words for the one who asked. An *[answer.Error] in err's
// chain is returned as it is. What the system says is not passed on: it may name resolvers and addresses of the
// exit's network.
func Explain(target string, err error) *answer.Error {
	var known *answer.Error
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &dns) && dns.IsNotFound:
		return answer.Errorf(answer.DNS, "%s: no such host", target)
	case errors.As(err, &dns):
		return answer.Errorf(answer.DNS, "%s: the name could not be resolved", target)
	case isAny(err, errsRefused):
		return answer.Errorf(answer.Refused, "%s refused the connection", target)
	case isAny(err, errsUnreachable):
		return answer.Errorf(answer.Unreachable, "%s is unreachable", target)
	case errors.Is(err, os.ErrNotExist):
		return answer.Errorf(answer.Refused, "%s: no such socket", target)
	case errors.Is(err, os.ErrPermission):
		return answer.Errorf(answer.Refused, "%s: the exit has no permission to connect to it", target)
	case errors.Is(err, context.Canceled):
		return answer.Errorf(answer.Broken, "%s: the flow was ended", target)
	case errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded):
		return answer.Errorf(answer.Timeout, "%s did not answer in time", target)
	}
	return answer.Errorf(answer.Unreachable, "%s: connecting failed", target)
}

// IsRefused reports that the target's host answered, and that nothing listens there. Of a UDP socket, Windows says so
// by "connection reset".
func IsRefused(err error) bool { return isAny(err, errsNobody) }

func isAny(err error, list []syscall.Errno) bool {
	return slices.ContainsFunc(list, func(e syscall.Errno) bool { return errors.Is(err, e) })
}
