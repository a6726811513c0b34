package dev.lakehouse.envelope;

import org.apache.flink.table.data.StringData;

/**
 * Reads the id and the time out of a record's value, and checks that the value is strict JSON, in one pass.
 *
 * <p>Nothing else is materialized, and no value makes it throw. Stateless and safe to share between threads.
 */
public final class EnvelopeReader {
    private static final int MAX_ID_LENGTH = 128;

    private final Member.Name id;
    private final Member.Name time;

    public EnvelopeReader(String idField, String timeField) {
        this.id = new Member.Name(idField);
        this.time = new Member.Name(timeField);
    }

    /** Reads one value, which may be null. */
    public Envelope read(byte[] value) {
        try {
            return place(value);
        } catch (Unplaceable reason) {
            return Envelope.refused(reason);
        } catch (RuntimeException defect) {
            // There is none that we know of. If there is, one record is set aside, and the job goes on.
            String message = "The value could not be read, by a defect of the reader (" + defect.getClass().getName() + ").";
            return Envelope.refused(new Unplaceable(ErrorType.INVALID_JSON, message));
        }
    }

    private Envelope place(byte[] value) throws Unplaceable {
        if (value == null) {
            throw new Unplaceable(ErrorType.NULL_PAYLOAD, "The record has no value.");
        }
        int invalid = Utf8.firstInvalid(value);
        if (invalid >= 0) {
            throw new Unplaceable(ErrorType.INVALID_ENCODING, "The value is not UTF-8: see byte " + invalid + ".");
        }
        Member idMember = new Member(id, value);
        Member timeMember = new Member(time, value);
        scan(value, idMember, timeMember);
        idMember.requirePresent();
        timeMember.requirePresent();
        return Envelope.placed(eventId(idMember), eventMicros(timeMember));
    }

    private static void scan(byte[] value, Member idMember, Member timeMember) throws Unplaceable {
        JsonScanner json = new JsonScanner(value);
        int at = json.skipWhitespace(0);
        if (at == value.length) {
            throw new Unplaceable(ErrorType.INVALID_JSON, "The value is empty.");
        }
        if (json.peek(at) != '{') {
            throw new Unplaceable(ErrorType.INVALID_JSON, "The value is not a JSON object: it does not start with '{'.");
        }
        at = json.skipWhitespace(at + 1);
        if (json.peek(at) == '}') {
            at++;
        } else {
            at = scanMembers(json, at, idMember, timeMember);
        }
        if (json.skipWhitespace(at) != value.length) {
            throw new Unplaceable(
                    ErrorType.INVALID_JSON, "The value is not JSON: something follows the object at byte " + at + ".");
        }
    }

    private static int scanMembers(JsonScanner json, int from, Member idMember, Member timeMember) throws Unplaceable {
        int at = from;
        while (true) {
            int name = at;
            if (json.peek(at) != '"') {
                throw json.unexpected(at, "a member's name");
            }
            int nameEnd = json.skipString(name);
            int member = json.skipColon(nameEnd);
            at = json.skipValue(member);
            if (idMember.isNamed(name + 1, nameEnd - 1)) {
                idMember.found(member, at);
            } else if (timeMember.isNamed(name + 1, nameEnd - 1)) {
                timeMember.found(member, at);
            }
            at = json.skipWhitespace(at);
            if (json.peek(at) != ',') {
                return json.expect(at, '}', "or ','");
            }
            at = json.skipWhitespace(at + 1);
        }
    }

    private static StringData eventId(Member member) throws Unplaceable {
        StringData text = member.string();
        byte[] bytes = text.toBytes();
        int length = Utf8.codePoints(bytes, 0, bytes.length);
        if (length < 1 || length > MAX_ID_LENGTH) {
            throw member.refused("it must have 1 to " + MAX_ID_LENGTH + " characters, not " + length);
        }
        return text;
    }

    private static long eventMicros(Member member) throws Unplaceable {
        byte[] bytes = member.string().toBytes();
        return Rfc3339.micros(bytes, 0, bytes.length, member.fieldName());
    }
}
