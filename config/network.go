package config

import (
	"errors"
	"math"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
)

// Network says what actions may reach beyond public addresses, and how they
// connect.
type Network struct {
	// Profile is [ProfileProduction], or [ProfileDevelopment], which allows this
	// machine too.
	Profile string `toml:"profile" default:"production" choice:"production,development"`
	// Allow lists private and reserved ranges.
	Allow []netip.Prefix `toml:"allow"`
	// Ports are the ports that may be reached, at any address; nil means all.
	Ports []int `toml:"ports"`
	// Proxy is the HTTP proxy for public addresses; none when it is zero. Its URL
	// may have a user and a password.
	Proxy observer.Secret `toml:"proxy"`
	// ConnectTimeout bounds looking up a name and connecting.
	ConnectTimeout time.Duration `toml:"connect_timeout" default:"10s" min:"10ms" max:"5m"`
	// TLSTimeout bounds the TLS handshake of HTTPS.
	TLSTimeout time.Duration `toml:"tls_timeout" default:"10s" min:"10ms" max:"5m"`
	// HeaderTimeout bounds the wait for an HTTP answer to begin.
	HeaderTimeout time.Duration `toml:"header_timeout" default:"5m" min:"10ms" max:"24h"`

	proxy *url.URL
}

// The values of [Network.Profile].
const (
	ProfileProduction  = "production"
	ProfileDevelopment = "development"
)

// Outbound is the network for the actions.
func (n Network) Outbound() *outbound.Network {
	cfg := outbound.Config{
		Allow: slices.Clone(n.Allow), Proxy: n.proxy,
		DialTimeout: n.ConnectTimeout, TLSTimeout: n.TLSTimeout, HeaderTimeout: n.HeaderTimeout,
	}
	if n.Profile == ProfileDevelopment {
		cfg.Allow = append(cfg.Allow, thisMachine()...)
	}
	for _, port := range n.Ports {
		cfg.Ports = append(cfg.Ports, uint16(port)) //nolint:gosec // it was checked when it was read
	}
	return outbound.New(cfg)
}

// thisMachine is what the development profile allows.
func thisMachine() []netip.Prefix {
	return []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8),
		netip.PrefixFrom(netip.IPv6Loopback(), 128),
	}
}

func (n *Network) read(s *scope) {
	s.fields(n)
	for _, port := range n.Ports {
		if !s.failed("ports") && (port < 1 || port > math.MaxUint16) {
			s.failKey("ports", "has %d: ports are from 1 to 65535", port)
		}
	}
	if s.given("ports") && !s.failed("ports") && len(n.Ports) == 0 {
		s.failKey("ports", "is empty, so that nothing could be reached: leave it out to allow every port")
	}
	if n.Proxy.IsZero() || s.failed("proxy") {
		return
	}
	proxy, err := parseProxy(n.Proxy.Reveal())
	if err != nil {
		s.failKey("proxy", "%s", err.Error()) // in words that do not repeat it
		return
	}
	n.proxy = proxy
}

func parseProxy(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, errors.New(`must be the URL of an HTTP proxy, such as "http://proxy.example.com:3128"`)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("must end after the host and the port")
	}
	return u, nil
}

// warnings are what is valid and lets actions reach more than they should in
// production.
func (n Network) warnings() []string {
	var warnings []string
	if n.Profile == ProfileDevelopment {
		warnings = append(warnings, `network.profile is "development": actions may reach every port of this machine (127.0.0.0/8 and ::1)`)
	}
	for _, prefix := range n.Allow {
		if prefix.Bits() == 0 {
			warnings = append(warnings, "network.allow has "+prefix.String()+": actions may reach every private address")
		}
	}
	return warnings
}
