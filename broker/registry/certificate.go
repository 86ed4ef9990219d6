package registry

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// How a certificate is told to be a client's whose certificates an authority issues (RFC 8705 section 2.1.2): by its subject's
// name, or by one of its alternative names. All are compared as they are, without wildcards and without ignoring case in more than a
// host name: a comparison that is cleverer than the authority would take one client's certificate for another's.

// MatchesCertificate says whether a certificate names the client, by the one tls_client_auth_ field that is registered. Who issued it, and until
// when, is not looked at here.
func (c *Client) MatchesCertificate(certificate *x509.Certificate) bool {
	switch {
	case c.TLSSubjectDN != "":
		want, err := parseDN(c.TLSSubjectDN)
		return err == nil && subjectIs(certificate.RawSubject, want)
	case c.TLSSANDNS != "":
		return slices.ContainsFunc(certificate.DNSNames, func(name string) bool { return strings.EqualFold(name, c.TLSSANDNS) })
	case c.TLSSANURI != "":
		want, err := url.Parse(c.TLSSANURI)
		return err == nil && slices.ContainsFunc(certificate.URIs, func(u *url.URL) bool { return u.String() == want.String() })
	case c.TLSSANIP != "":
		want, err := netip.ParseAddr(c.TLSSANIP)
		return err == nil && slices.ContainsFunc(certificate.IPAddresses, func(ip net.IP) bool {
			got, ok := netip.AddrFromSlice(ip)
			return ok && got.Unmap() == want.Unmap()
		})
	case c.TLSSANEmail != "":
		return slices.Contains(certificate.EmailAddresses, c.TLSSANEmail)
	}
	return false
}

// rdn is a relative distinguished name: attributes, mostly one, as type and value.
type rdn map[string]string

// attributeTypes are the short names of RFC 4514 section 3, and those that certificates of banks and authorities use beside them.
var attributeTypes = map[string]string{
	"CN": "2.5.4.3", "L": "2.5.4.7", "ST": "2.5.4.8", "O": "2.5.4.10", "OU": "2.5.4.11", "C": "2.5.4.6", "STREET": "2.5.4.9",
	"DC": "0.9.2342.19200300.100.1.25", "UID": "0.9.2342.19200300.100.1.1",
	"SERIALNUMBER": "2.5.4.5", "SN": "2.5.4.4", "GN": "2.5.4.42", "TITLE": "2.5.4.12", "POSTALCODE": "2.5.4.17",
	"BUSINESSCATEGORY": "2.5.4.15", "ORGANIZATIONIDENTIFIER": "2.5.4.97", "EMAILADDRESS": "1.2.840.113549.1.9.1",
	"JURISDICTIONL": "1.3.6.1.4.1.311.60.2.1.1", "JURISDICTIONST": "1.3.6.1.4.1.311.60.2.1.2", "JURISDICTIONC": "1.3.6.1.4.1.311.60.2.1.3",
}

// maxDN bounds a name as text, and so its parts.
const maxDN = 1024

// parseDN reads a distinguished name as RFC 4514 section 3 writes it: the last part of the certificate's name first.
func parseDN(text string) ([]rdn, error) {
	if text == "" || len(text) > maxDN {
		return nil, fmt.Errorf("a name has 1 to %d bytes", maxDN)
	}
	var name []rdn
	part := rdn{}
	for rest := text; ; {
		kind, value, end, err := parseAttribute(&rest)
		if err != nil {
			return nil, err
		}
		if _, twice := part[kind]; twice {
			return nil, fmt.Errorf("%s is twice in one part", kind)
		}
		part[kind] = value
		if end == '+' {
			continue
		}
		name = append(name, part)
		if end == 0 {
			slices.Reverse(name)
			return name, nil
		}
		part = rdn{}
	}
}

// parseAttribute takes one "type=value" off rest, and says which separator ended it; 0 is the end of the name.
func parseAttribute(rest *string) (kind, value string, end byte, err error) {
	typed, after, found := strings.Cut(*rest, "=")
	if !found {
		return "", "", 0, fmt.Errorf("%q is not type=value", *rest)
	}
	// A space around separators is not RFC 4514's, and what most people write.
	if kind, err = attributeType(strings.Trim(typed, " ")); err != nil {
		return "", "", 0, err
	}
	after = strings.TrimLeft(after, " ")
	encoded := strings.HasPrefix(after, "#")
	var out []byte
	kept := 0 // how much of out stays, whatever spaces follow: they are the separator's unless escaped
	i := 0
	for ; i < len(after) && end == 0; i++ {
		switch c := after[i]; {
		case c == ',' || c == '+':
			end = c
		case c == '\\':
			taken, n, err := unescape(after[i+1:])
			if err != nil {
				return "", "", 0, err
			}
			out = append(out, taken)
			i, kept = i+n, len(out)
		case strings.IndexByte("\";<>\x00", c) >= 0:
			return "", "", 0, fmt.Errorf("%q must be written with a backslash before it", string(c))
		default:
			if out = append(out, c); c != ' ' {
				kept = len(out)
			}
		}
	}
	*rest = after[i:]
	value = string(out[:kept])
	if encoded {
		value, err = fromBER(value[1:])
	}
	if err == nil && value == "" {
		err = errors.New("a value is empty")
	}
	return kind, value, end, err
}

// unescape is the byte that stands behind a backslash, and how many bytes it takes there: two hexadecimal digits or a special
// character (RFC 4514 section 3, pair).
func unescape(s string) (taken byte, n int, err error) {
	if len(s) >= 2 {
		if b, err := strconv.ParseUint(s[:2], 16, 8); err == nil {
			return byte(b), 2, nil
		}
	}
	if s != "" && strings.IndexByte(`\"+,;<> #=`, s[0]) >= 0 {
		return s[0], 1, nil
	}
	return 0, 0, errors.New("a backslash stands before neither two hexadecimal digits nor a special character")
}

// attributeType is the object identifier of an attribute's name.
func attributeType(name string) (string, error) {
	if oid, ok := attributeTypes[strings.ToUpper(name)]; ok {
		return oid, nil
	}
	arcs := strings.Split(name, ".")
	for _, arc := range arcs {
		if n, err := strconv.ParseUint(arc, 10, 31); err != nil || strconv.FormatUint(n, 10) != arc {
			return "", fmt.Errorf("%q is no attribute that is known here; write its object identifier, such as 2.5.4.3 for CN", name)
		}
	}
	if len(arcs) < 2 {
		return "", fmt.Errorf("%q is no object identifier", name)
	}
	return name, nil
}

// fromBER is the text in a value of the form #hexadecimal, which is how attributes without a short name are written.
func fromBER(encoded string) (string, error) {
	der, err := hex.DecodeString(encoded)
	if err != nil {
		return "", fmt.Errorf("behind # stand no hexadecimal digits: %w", err)
	}
	var value any
	rest, err := asn1.Unmarshal(der, &value)
	text, ok := value.(string)
	if err != nil || len(rest) > 0 || !ok {
		return "", errors.New("behind # stands no encoded text")
	}
	return text, nil
}

// subjectIs says whether a certificate's subject, as it is encoded there, is a name: the same parts in the same order, each with the same
// attributes.
func subjectIs(raw []byte, want []rdn) bool {
	var got pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &got); err != nil || len(rest) > 0 || len(got) != len(want) {
		return false
	}
	for i, part := range got {
		if len(part) != len(want[i]) {
			return false
		}
		for _, attribute := range part {
			value, text := attribute.Value.(string)
			expected, known := want[i][attribute.Type.String()]
			if !text || !known || value != expected {
				return false
			}
		}
	}
	return true
}
