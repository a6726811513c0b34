package dev.lakehouse.envelope;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.apache.flink.table.data.StringData;

/**
 * One of the two members of the object that place an event: where it was found and what is wrong with it.
 *
 * <p>A member that is there more than once, with one and the same value, says nothing else than if it were there once.
 * With different values nobody can tell which one counts.
 */
final class Member {
    /** A member's name, and its bytes as they stand between quotes if nothing in it is escaped. */
    static final class Name {
        private final String text;
        private final byte[] bytes;

        Name(String text) {
            this.text = text;
            this.bytes = text.getBytes(StandardCharsets.UTF_8);
        }
    }

    private final Name name;
    private final byte[] value;
    private int from = -1;
    private int to = -1;
    private boolean contradictory;

    Member(Name name, byte[] value) {
        this.name = name;
        this.value = value;
    }

    String fieldName() {
        return name.text;
    }

    /** Whether the member name between the quotes at {@code [nameFrom, nameTo)} is this member's, escaped or not. */
    boolean isNamed(int nameFrom, int nameTo) {
        if (Arrays.equals(value, nameFrom, nameTo, name.bytes, 0, name.bytes.length)) {
            return true;
        }
        // An escape is longer than what it stands for, so a shorter name can't be this one.
        return nameTo - nameFrom > name.bytes.length
                && JsonText.hasEscape(value, nameFrom, nameTo)
                && JsonText.decode(value, nameFrom, nameTo).equals(name.text);
    }

    void found(int valueFrom, int valueTo) {
        if (from < 0) {
            from = valueFrom;
            to = valueTo;
        } else if (!isSame(valueFrom, valueTo)) {
            contradictory = true;
        }
    }

    private boolean isSame(int otherFrom, int otherTo) {
        return Arrays.equals(value, from, to, value, otherFrom, otherTo)
                || (value[from] == '"'
                        && value[otherFrom] == '"'
                        && JsonText.decode(value, from + 1, to - 1)
                                .equals(JsonText.decode(value, otherFrom + 1, otherTo - 1)));
    }

    void requirePresent() throws Unplaceable {
        if (from < 0) {
            throw new Unplaceable(ErrorType.MISSING_FIELD, name.text + " is missing.");
        }
        if (value[from] == 'n' && !contradictory) {
            throw new Unplaceable(ErrorType.MISSING_FIELD, name.text + " is null.");
        }
    }

    /** The member's value, which must be a string of which each half of a surrogate pair has its other half. */
    StringData string() throws Unplaceable {
        if (contradictory) {
            throw refused("it is there more than once, with different values");
        }
        if (value[from] != '"') {
            throw refused("it must be a string");
        }
        if (!JsonText.hasEscape(value, from + 1, to - 1)) {
            return StringData.fromBytes(value, from + 1, to - from - 2);
        }
        String decoded = JsonText.decode(value, from + 1, to - 1);
        if (JsonText.hasUnpairedSurrogate(decoded)) {
            throw refused("it holds half of a surrogate pair");
        }
        return StringData.fromString(decoded);
    }

    Unplaceable refused(String reason) {
        return new Unplaceable(ErrorType.INVALID_FIELD, name.text + " can't be used: " + reason + ".");
    }
}
