package spec

import (
	"unicode/utf8"

	"github.com/goccy/go-yaml/token"
)

// joinColons puts right what goccy/go-yaml 1.19 gets wrong: in a list within
// braces, {servers: [10.0.0.1:2181]}, it takes the colon of a plain scalar for
// that of a mapping. There a colon parts key and value only before a blank
// (YAML 1.2.2, section 7.3.3, ns-plain-char).
func joinColons(tokens token.Tokens) token.Tokens {
	var out token.Tokens
	var open []token.Type // flow collections around, innermost last
	for i := 0; i < len(tokens); i++ {
		tk := tokens[i]
		switch tk.Type {
		case token.SequenceStartType, token.MappingStartType:
			open = append(open, tk.Type)
		case token.SequenceEndType, token.MappingEndType:
			if len(open) > 0 {
				open = open[:len(open)-1]
			}
		case token.MappingValueType:
			inList := len(open) > 0 && open[len(open)-1] == token.SequenceStartType
			if inList && len(out) > 0 && i+1 < len(tokens) && touch(out[len(out)-1], tk, tokens[i+1]) {
				out[len(out)-1] = joined(out[len(out)-1], tokens[i+1])
				i++
				continue
			}
		}
		out = append(out, tk)
	}
	return linked(out)
}

// touch says that no blank stands between the plain scalars a and b and the
// colon.
func touch(a, colon, b *token.Token) bool {
	return scalarTypes[a.Type] && scalarTypes[b.Type] &&
		a.Position.Offset+utf8.RuneCountInString(a.Value) == colon.Position.Offset &&
		colon.Position.Offset+1 == b.Position.Offset
}

var scalarTypes = map[token.Type]bool{
	token.StringType: true, token.IntegerType: true, token.FloatType: true, token.BoolType: true, token.NullType: true,
	token.BinaryIntegerType: true, token.OctetIntegerType: true, token.HexIntegerType: true,
	token.InfinityType: true, token.NanType: true,
}

func joined(a, b *token.Token) *token.Token {
	tk := token.New(a.Value+":"+b.Value, a.Origin+":"+b.Origin, a.Position)
	tk.Type, tk.CharacterType, tk.Indicator = token.StringType, token.CharacterTypeMiscellaneous, token.NotIndicator
	return tk
}

// linked sets each token's neighbors.
func linked(tokens token.Tokens) token.Tokens {
	for i, tk := range tokens {
		tk.Prev, tk.Next = nil, nil
		if i > 0 {
			tk.Prev, tokens[i-1].Next = tokens[i-1], tk
		}
	}
	return tokens
}
