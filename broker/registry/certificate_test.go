package registry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

// certificateOf is a certificate made from template.
func certificateOf(t testing.TB, template x509.Certificate) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.NotAfter = big.NewInt(1), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// A bank's certificate: names with commas, spaces, letters beyond ASCII, and attributes without a short name.
func bank(t testing.TB) *x509.Certificate {
	t.Helper()
	home, err := url.Parse("https://app.example.com/client")
	if err != nil {
		t.Fatal(err)
	}
	return certificateOf(t, x509.Certificate{
		Subject: pkix.Name{
			Country: []string{"DE"}, Organization: []string{`Müller, Söhne & Co "Nord"`}, CommonName: "app.example.com",
			ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 97}, Value: "PSDDE-BAFIN-1"}},
		},
		DNSNames: []string{"app.example.com", "*.example.org"}, URIs: []*url.URL{home},
		IPAddresses: []net.IP{net.IPv4(192, 0, 2, 7)}, EmailAddresses: []string{"ops@example.com"},
	})
}

// tls_client_auth (RFC 8705 section 2.1.2): a name that is nearly the client's is somebody else's.
func TestACertificateIsTheClientsByOneName(t *testing.T) {
	shown := bank(t)
	for name, c := range map[string]struct {
		client Client
		want   bool
	}{
		"nothing registered": {Client{}, false},

		"the subject, as openssl -nameopt RFC2253 writes it": {Client{TLSSubjectDN: `2.5.4.97=#130D50534444452D424146494E2D31,CN=app.example.com,O=M\C3\BCller\, S\C3\B6hne & Co \"Nord\",C=DE`}, true},
		"the same in short, in UTF-8 and with spaces":        {Client{TLSSubjectDN: `organizationIdentifier = PSDDE-BAFIN-1, cn = app.example.com, O=Müller\, Söhne & Co \"Nord\" , C=DE`}, true},
		"in the certificate's own order":                     {Client{TLSSubjectDN: `C=DE,O=Müller\, Söhne & Co \"Nord\",CN=app.example.com,2.5.4.97=PSDDE-BAFIN-1`}, false},
		"a part less":                                        {Client{TLSSubjectDN: `CN=app.example.com,O=Müller\, Söhne & Co \"Nord\",C=DE`}, false},
		"a part more":                                        {Client{TLSSubjectDN: `2.5.4.97=PSDDE-BAFIN-1,CN=app.example.com,O=Müller\, Söhne & Co \"Nord\",C=DE,C=DE`}, false},
		"two parts as one":                                   {Client{TLSSubjectDN: `2.5.4.97=PSDDE-BAFIN-1+CN=app.example.com,O=Müller\, Söhne & Co \"Nord\",C=DE`}, false},
		"another case":                                       {Client{TLSSubjectDN: `2.5.4.97=PSDDE-BAFIN-1,CN=APP.example.com,O=Müller\, Söhne & Co \"Nord\",C=DE`}, false},
		"the common name alone":                              {Client{TLSSubjectDN: `CN=app.example.com`}, false},
		"no name":                                            {Client{TLSSubjectDN: `app.example.com`}, false},

		"a DNS name":                 {Client{TLSSANDNS: "app.example.com"}, true},
		"a DNS name in another case": {Client{TLSSANDNS: "APP.example.com"}, true},
		"a name below a wildcard":    {Client{TLSSANDNS: "x.example.org"}, false},
		"the wildcard itself":        {Client{TLSSANDNS: "*.example.org"}, true},
		"a wildcard over the name":   {Client{TLSSANDNS: "*.example.com"}, false},
		"the common name as email":   {Client{TLSSANEmail: "app.example.com"}, false},
		"a URI":                      {Client{TLSSANURI: "https://app.example.com/client"}, true},
		"a longer URI":               {Client{TLSSANURI: "https://app.example.com/client/2"}, false},
		"an address":                 {Client{TLSSANIP: "192.0.2.7"}, true},
		"the address as IPv6":        {Client{TLSSANIP: "::ffff:192.0.2.7"}, true},
		"another address":            {Client{TLSSANIP: "192.0.2.8"}, false},
		"an email":                   {Client{TLSSANEmail: "ops@example.com"}, true},
		"another email":              {Client{TLSSANEmail: "dev@example.com"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.client.MatchesCertificate(shown); got != c.want {
				t.Errorf("got %t, want %t; the subject is %s", got, c.want, shown.Subject)
			}
		})
	}
}

func TestAMultiValuedPartMatchesInAnyOrder(t *testing.T) {
	subject := pkix.RDNSequence{{
		{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "a"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 11}, Value: "b"},
	}}
	raw, err := asn1.Marshal(subject)
	if err != nil {
		t.Fatal(err)
	}
	shown := certificateOf(t, x509.Certificate{RawSubject: raw})
	for dn, want := range map[string]bool{"CN=a+OU=b": true, "OU=b+CN=a": true, "CN=a": false, "CN=a,OU=b": false, "CN=a+OU=b+O=c": false} {
		c := Client{TLSSubjectDN: dn}
		if got := c.MatchesCertificate(shown); got != want {
			t.Errorf("%s: got %t, want %t", dn, got, want)
		}
	}
}

// What cannot be a name is refused when it is registered, not at the first sign-in.
func TestBadNamesAreRefused(t *testing.T) {
	for _, dn := range []string{
		"", "app", "=a", "CN=", "CN=a,", "CN=a+", ",CN=a", "NAME=a", "1=a", "2.05=a", "2.5.=a", `CN="a"`, "CN=a;OU=b", "CN=<a>",
		`CN=a\`, `CN=\z`, "CN=#zz", "CN=#0000", "CN=a\x00", "CN=a+CN=b", "CN=" + strings.Repeat("a", maxDN),
	} {
		if _, err := parseDN(dn); err == nil {
			t.Errorf("%q is taken for a name", dn)
		}
	}
	for dn, want := range map[string]string{
		`CN=\ a \ `: " a  ", `CN=\#a`: "#a", `CN=a\2Cb`: "a,b", `CN=a\=b=c`: "a=b=c", "CN=#130161": "a", "CN= a ": "a", `CN=\61`: "a",
	} {
		got, err := parseDN(dn)
		if err != nil || got[0]["2.5.4.3"] != want {
			t.Errorf("%q: got %q, %v, want %q", dn, got, err, want)
		}
	}
}

func FuzzDN(f *testing.F) {
	f.Add(`2.5.4.97=#130D50534444452D424146494E2D31,CN=app.example.com+OU=x,O=M\C3\BCller\, S,C=DE`)
	f.Add(`CN=\`)
	f.Add("CN=#")
	f.Fuzz(func(t *testing.T, text string) {
		name, err := parseDN(text)
		if err == nil && (len(name) == 0 || len(name[0]) == 0) {
			t.Errorf("%q is an empty name", text)
		}
	})
}
