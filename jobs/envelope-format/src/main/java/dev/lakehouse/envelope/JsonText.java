package dev.lakehouse.envelope;

import java.nio.charset.StandardCharsets;

/** Turns what stands between the quotes of a JSON string into text. */
final class JsonText {
    private JsonText() {}

    static boolean hasEscape(byte[] text, int from, int to) {
        for (int at = from; at < to; at++) {
            if (text[at] == '\\') {
                return true;
            }
        }
        return false;
    }

    /** Decodes {@code [from, to)}, which the scanner has passed. Unpaired surrogates stay as they are. */
    static String decode(byte[] text, int from, int to) {
        StringBuilder decoded = new StringBuilder(to - from);
        int at = from;
        while (at < to) {
            int plain = at;
            while (at < to && text[at] != '\\') {
                at++;
            }
            decoded.append(new String(text, plain, at - plain, StandardCharsets.UTF_8));
            if (at < to) {
                at = appendEscape(decoded, text, at);
            }
        }
        return decoded.toString();
    }

    private static int appendEscape(StringBuilder decoded, byte[] text, int at) {
        byte kind = text[at + 1];
        switch (kind) {
            case 'b' -> decoded.append('\b');
            case 'f' -> decoded.append('\f');
            case 'n' -> decoded.append('\n');
            case 'r' -> decoded.append('\r');
            case 't' -> decoded.append('\t');
            case 'u' -> decoded.append(
                    (char) Integer.parseInt(new String(text, at + 2, 4, StandardCharsets.US_ASCII), 16));
            default -> decoded.append((char) kind);
        }
        return kind == 'u' ? at + 6 : at + 2;
    }

    /** Whether a text can't be written in UTF-8, because half of a surrogate pair is missing. */
    static boolean hasUnpairedSurrogate(String text) {
        return text.codePoints().anyMatch(point -> point >= Character.MIN_SURROGATE && point <= Character.MAX_SURROGATE);
    }
}
