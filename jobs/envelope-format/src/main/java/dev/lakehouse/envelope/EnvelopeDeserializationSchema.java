package dev.lakehouse.envelope;

import java.util.List;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.util.Collector;

/** The format while a job runs: one row for each value. */
final class EnvelopeDeserializationSchema implements DeserializationSchema<RowData> {
    private static final long serialVersionUID = 1L;

    private final String idField;
    private final String timeField;
    private final EnvelopeColumn[] columns;
    private final TypeInformation<RowData> producedType;
    private transient EnvelopeReader reader;

    EnvelopeDeserializationSchema(
            String idField, String timeField, List<EnvelopeColumn> columns, TypeInformation<RowData> producedType) {
        this.idField = idField;
        this.timeField = timeField;
        this.columns = columns.toArray(EnvelopeColumn[]::new);
        this.producedType = producedType;
    }

    @Override
    public void open(InitializationContext context) {
        reader = new EnvelopeReader(idField, timeField);
    }

    @Override
    public RowData deserialize(byte[] message) {
        Envelope envelope = reader.read(message);
        GenericRowData row = new GenericRowData(columns.length);
        for (int index = 0; index < columns.length; index++) {
            row.setField(index, columns[index].value(message, envelope));
        }
        return row;
    }

    /** Unlike the interface's own, it also emits a row for a record without a value. */
    @Override
    public void deserialize(byte[] message, Collector<RowData> out) {
        out.collect(deserialize(message));
    }

    @Override
    public boolean isEndOfStream(RowData nextElement) {
        return false;
    }

    @Override
    public TypeInformation<RowData> getProducedType() {
        return producedType;
    }
}
