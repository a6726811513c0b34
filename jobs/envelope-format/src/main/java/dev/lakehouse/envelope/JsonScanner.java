package dev.lakehouse.envelope;

import java.util.Arrays;

/**
 * Walks over JSON text (RFC 8259) without building anything.
 *
 * <p>Each method takes the position where something starts and answers the position behind it, or throws. It never
 * recurses, so nesting is bounded by the length of the text alone. The text must be well-formed UTF-8.
 */
final class JsonScanner {
    private static final int LEVELS_PER_WORD = Long.SIZE;

    private final byte[] text;
    /** One bit for each open level: set for an object, clear for an array. */
    private long[] objects = new long[1];

    JsonScanner(byte[] text) {
        this.text = text;
    }

    /** The byte at a position; 0, which means nothing in JSON, behind the end. */
    byte peek(int at) {
        return at < text.length ? text[at] : 0;
    }

    int skipWhitespace(int from) {
        int at = from;
        while (at < text.length) {
            byte next = text[at];
            if (next > ' ' || (next != ' ' && next != '\n' && next != '\r' && next != '\t')) {
                return at;
            }
            at++;
        }
        return at;
    }

    int expect(int at, char wanted, String where) throws Unplaceable {
        if (peek(at) != wanted) {
            throw unexpected(at, "'" + wanted + "' " + where);
        }
        return at + 1;
    }

    /** Skips a string whose opening quote is at {@code from}. */
    int skipString(int from) throws Unplaceable {
        int at = from + 1;
        while (at < text.length) {
            byte next = text[at];
            if (next == '"') {
                return at + 1;
            }
            if (next == '\\') {
                at = skipEscape(at);
            } else if (next >= 0 && next < ' ') {
                throw malformed("a control character inside a string at byte " + at);
            } else {
                at++;
            }
        }
        throw malformed("a string that starts at byte " + from + " does not end");
    }

    private int skipEscape(int at) throws Unplaceable {
        switch (peek(at + 1)) {
            case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
                return at + 2;
            case 'u':
                for (int digit = at + 2; digit < at + 6; digit++) {
                    if (Character.digit(peek(digit), 16) < 0) {
                        throw malformed("an unknown escape at byte " + at);
                    }
                }
                return at + 6;
            default:
                throw malformed("an unknown escape at byte " + at);
        }
    }

    /** Skips the member name at {@code from}, the colon behind it and the whitespace around them. */
    int skipName(int from) throws Unplaceable {
        if (peek(from) != '"') {
            throw unexpected(from, "a member's name");
        }
        return skipColon(skipString(from));
    }

    int skipColon(int from) throws Unplaceable {
        return skipWhitespace(expect(skipWhitespace(from), ':', "behind a member's name"));
    }

    /** Skips any value, however deep. */
    int skipValue(int from) throws Unplaceable {
        int depth = 0;
        int at = from;
        while (true) {
            byte next = peek(at);
            if (next == '{' || next == '[') {
                boolean object = next == '{';
                at = skipWhitespace(at + 1);
                if (peek(at) != (object ? '}' : ']')) {
                    open(depth++, object);
                    at = object ? skipName(at) : at;
                    continue;
                }
                at++;
            } else {
                at = skipScalar(at, next);
            }
            while (true) {
                if (depth == 0) {
                    return at;
                }
                boolean object = isObject(depth - 1);
                at = skipWhitespace(at);
                byte follows = peek(at);
                if (follows == ',') {
                    at = skipWhitespace(at + 1);
                    at = object ? skipName(at) : at;
                    break;
                }
                at = expect(at, object ? '}' : ']', "or ','");
                depth--;
            }
        }
    }

    private int skipScalar(int at, byte next) throws Unplaceable {
        switch (next) {
            case '"':
                return skipString(at);
            case 't':
                return skipLiteral(at, "true");
            case 'f':
                return skipLiteral(at, "false");
            case 'n':
                return skipLiteral(at, "null");
            case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
                return skipNumber(at);
            default:
                throw unexpected(at, "a value");
        }
    }

    private int skipLiteral(int from, String literal) throws Unplaceable {
        for (int index = 0; index < literal.length(); index++) {
            if (peek(from + index) != literal.charAt(index)) {
                throw unexpected(from, "a value");
            }
        }
        return from + literal.length();
    }

    private int skipNumber(int from) throws Unplaceable {
        int at = peek(from) == '-' ? from + 1 : from;
        at = peek(at) == '0' ? at + 1 : skipDigits(at);
        if (peek(at) == '.') {
            at = skipDigits(at + 1);
        }
        if (peek(at) == 'e' || peek(at) == 'E') {
            byte sign = peek(at + 1);
            at = skipDigits(sign == '+' || sign == '-' ? at + 2 : at + 1);
        }
        return at;
    }

    private int skipDigits(int from) throws Unplaceable {
        int at = from;
        while (isDigit(peek(at))) {
            at++;
        }
        if (at == from) {
            throw unexpected(at, "a digit");
        }
        return at;
    }

    static boolean isDigit(byte value) {
        return value >= '0' && value <= '9';
    }

    private void open(int level, boolean object) {
        int word = level / LEVELS_PER_WORD;
        if (word == objects.length) {
            objects = Arrays.copyOf(objects, 2 * objects.length);
        }
        long bit = 1L << (level % LEVELS_PER_WORD);
        objects[word] = object ? objects[word] | bit : objects[word] & ~bit;
    }

    private boolean isObject(int level) {
        return (objects[level / LEVELS_PER_WORD] & (1L << (level % LEVELS_PER_WORD))) != 0;
    }

    Unplaceable unexpected(int at, String wanted) {
        return malformed(
                at >= text.length
                        ? "it ends where " + wanted + " should be"
                        : wanted + " should be at byte " + at);
    }

    private static Unplaceable malformed(String problem) {
        return new Unplaceable(ErrorType.INVALID_JSON, "The value is not JSON: " + problem + ".");
    }
}
